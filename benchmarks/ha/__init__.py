"""Two instances behind one address that keepalived moves: what is lost when the one that has it is killed."""
