"""Structured pruning: choose what to keep (select), cut the rest (surgery)."""
