"""Making up for what was cut, without labels, before re-tuning: one way a file."""
