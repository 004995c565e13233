"""What a skill's neurons are: where they lie, what they do, and whose else they are."""
