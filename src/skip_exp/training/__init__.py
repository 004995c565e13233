"""The LightningModule, its trainer, and fits over several processes."""
