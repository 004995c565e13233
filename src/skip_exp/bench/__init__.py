"""What this project is measured against, side by side: ``python -m skip_exp.bench``."""
