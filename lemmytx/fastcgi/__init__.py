"""FastCGI 1.0 towards applications such as php-fpm: records, answers of CGI programs, and their variables."""
