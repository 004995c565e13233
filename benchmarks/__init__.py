"""What this project is measured against, side by side: ``python -m benchmarks``."""
