"""What one task needs on top of a backbone: its files, and how it answers."""
