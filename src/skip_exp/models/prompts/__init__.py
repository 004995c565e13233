"""Soft prompts, one kind a file: what is trained, beside the readout."""
