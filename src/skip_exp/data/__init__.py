"""Tasks: sources, rows, tokenization and batches."""
