"""Frozen backbones with soft prompts."""
