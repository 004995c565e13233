"""What is asked for: the typed configuration, and one line for whatever is wrong with it."""
