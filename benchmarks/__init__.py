"""Speed of larger shapes, and of the server under load."""
