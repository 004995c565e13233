"""Residual prompts (after Razdaibiedina et al. 2023): input embeddings e, used as e + MLP(e).

All virtual tokens share the MLP, so each of them learns from the gradients of the others.
"""

from torch import Tensor, cat, nn

from skip_exp.models.prompts import InputPrompt

WIDTH = 16  # of the MLP; settings of a custom prompt are constants in its code


class MyPrompt(InputPrompt):
    """Virtual word embeddings [length, H], starting where those of ``prompt=input`` do.

    ``build``, ``length`` and ``at_input`` are the parent's; only ``embed`` is new. A skill keeps
    parameters. Buffers are not stored, so ``build`` must create them again.
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
        # .shape instead of len(), which the ONNX exporter would treat as a constant
        return cat([soft.to(embeds.dtype).expand(embeds.shape[0], -1, -1), embeds], dim=1)
