"""Turns result files into tables, figures, one page, and the reconstructed table."""
