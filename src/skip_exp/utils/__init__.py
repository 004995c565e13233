"""What the machine gives: files that appear whole, the hub within reach, quiet minutes."""
