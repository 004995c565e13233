"""The jobs of one command: checks before the first, each job, workers, the summary."""
