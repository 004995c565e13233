"""A skill for onnxruntime: written, and read without torch."""
