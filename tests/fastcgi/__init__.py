"""The FastCGI codec."""
