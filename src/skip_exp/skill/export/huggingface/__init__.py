"""A skill as a checkpoint that transformers loads by itself, and its way to and from the hub."""
