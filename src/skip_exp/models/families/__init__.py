"""Families of backbones, one a file: where layers and linears are, how text is encoded."""
