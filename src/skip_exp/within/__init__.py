"""The fastest model within some points of the best one, on the user's own rows."""
