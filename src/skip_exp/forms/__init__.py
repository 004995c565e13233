"""The forms of a finished skill, a file each, and how they are timed."""
