"""What the live table costs."""
