"""The stage cache: what phases computed, kept in files for later jobs."""
