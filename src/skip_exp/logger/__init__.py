"""Logs a job's curves, summary and picture to W&B, a CSV file or nowhere."""
