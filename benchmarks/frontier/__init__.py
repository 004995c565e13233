"""Accuracy against speed: ours beside what else a user could take, on the same rows."""
