"""Residual prompts (after Razdaibiedina et al. 2023): input embeddings e, used as e + MLP(e).

All virtual tokens share the MLP, so that each learns from the gradients of the others.
"""

from torch import Tensor, cat, nn

from skip_exp.models.prompts.input import InputPrompt

WIDTH = 16  # of the MLP; a setting of one's own is a constant, and its change a change of the code


class MyPrompt(InputPrompt):
    """Virtual word embeddings [length, H], starting where those of ``prompt=input`` do.

    ``build``, ``length`` and ``at_input`` are the parent's: only what the encoder reads is new.
    Parameters are what a skill keeps; a buffer would have to be made again by ``build``.
    """

    def __init__(self, embedding: Tensor) -> None:
        super().__init__(embedding)
        self.down = nn.Linear(embedding.shape[1], WIDTH)
        self.up = nn.Linear(WIDTH, embedding.shape[1])
        nn.init.zeros_(self.up.weight)  # e + 0: it starts from real words
        nn.init.zeros_(self.up.bias)

    def embed(self, embeds: Tensor) -> Tensor:
        """Word embeddings [B, T, H] of the texts -> [B, length + T, H]."""
        soft = self.embedding + self.up(self.down(self.embedding).relu())
        # .shape, not len(): the ONNX exporter would take that for a constant
        return cat([soft.to(embeds.dtype).expand(embeds.shape[0], -1, -1), embeds], dim=1)
