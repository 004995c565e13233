"""No prompt: the baselines that tune a readout alone, or the whole model."""

from skip_exp.models.prompts.base import SoftPrompt


class NoPrompt(SoftPrompt):
    """Nothing."""
