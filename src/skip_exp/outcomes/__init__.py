"""What a model says of a text: one file for each kind of label, and what all kinds share."""
