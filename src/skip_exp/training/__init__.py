"""The LightningModule and its trainer."""
