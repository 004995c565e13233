"""skip_exp in Python: one call from rows to a small model."""
