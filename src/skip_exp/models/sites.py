"""Sites: the neurons of a model, by name.

A site is the neurons of one sublayer: the units of an FFN, or the heads of an attention. Relevance,
keep, skill files and results are keyed by site. This module builds and parses the names. Reports
use it, too, so it does not import torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Sublayer(str):
    """Name of a sublayer, ``<stack>.<layer>.<self|cross|ffn>``, e.g. ``encoder.3.self``."""

    __slots__ = ()

    @classmethod
    def of(cls, stack: str, layer: int, part: str) -> "Sublayer":
        """Build the name from its parts."""
        return cls(f"{stack}.{layer}.{part}")

    @property
    def stack(self) -> str:
        """``encoder`` or ``decoder``."""
        return self.split(".")[0]

    @property
    def layer(self) -> int:
        """Index of its layer in the stack."""
        return int(self.split(".")[1])

    @property
    def part(self) -> str:
        """``self``, ``cross`` or ``ffn``."""
        return self.split(".")[2]

    @property
    def site(self) -> "Site":
        """The site of its neurons; an FFN's is named like the FFN."""
        return Site(self if self.part == "ffn" else f"{self}.heads")


class Site(str):
    """Name of a site: ``encoder.3.ffn``, ``encoder.3.self.heads``, ``decoder.0.cross.heads``."""

    __slots__ = ()

    @property
    def sublayer(self) -> Sublayer:
        """The sublayer that it belongs to."""
        return Sublayer(".".join(self.split(".")[:3]))

    @property
    def kind(self) -> str:
        """``ffn`` or ``heads``."""
        return self.split(".")[-1]

    @property
    def like(self) -> str:
        """Its name without the layer, e.g. ``decoder.cross.heads``.

        Relevances are comparable only within it. Those of an encoder add up over the tokens of a
        text, those of a decoder over one or two. Ranked together, a T5 would lose all
        cross-attention first.
        """
        stack, _, rest = self.split(".", 2)
        return f"{stack}.{rest}"


Relevance = dict[str, "Tensor"]  # by site: scores [n], fp32 on the CPU
Keep = dict[str, "Tensor"]  # by site: sorted indices of what stays; absent: keep all
