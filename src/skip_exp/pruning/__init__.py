"""Structured pruning: choose what to keep (allocate), cut the rest (surgery)."""
