"""Reads result files, and nothing else: tables, figures, one page, and the reconstructed table."""
