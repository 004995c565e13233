"""Formats that need no backbone: transformers and onnxruntime."""
