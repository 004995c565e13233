"""Where backbones come from, and how their prompts and readouts are made."""
