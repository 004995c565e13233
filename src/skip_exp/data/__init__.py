"""Tasks: description, sources, tokenisation and batches."""
