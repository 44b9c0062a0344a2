"""The admin side: what operators and their programs look at and change while it runs."""
