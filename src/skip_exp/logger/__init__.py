"""Where a run is logged: W&B, CSV, or nowhere."""
