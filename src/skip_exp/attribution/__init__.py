"""Neuron attribution: one method a file, each `scores(model, batches, **options) -> relevance`."""
