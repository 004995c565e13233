"""The forms of a finished skill, and how they are timed."""
