"""The jobs of one command: each by itself, earlier attempts, workers, the end."""
