"""Where a job's curves, summary and picture go: W&B, a CSV file, or nowhere."""
