"""Soft prompts on frozen language models, with the neurons a prompt does not need cut away."""

__version__ = "0.1.0"
