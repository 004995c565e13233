"""Sites: the neurons of a model, their names and their cost in parameters.

A site is one kind of neuron in one sublayer: the units of an FFN, or the heads, query/key dims or
value/output dims of an attention. Relevance, keep, skill files and results are keyed by site. This
module builds and parses the names. Reports use it, too, so it does not import torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

    def site(self, kind: str) -> "Site":
        """Name the site of its neurons of one kind; an FFN's site is named like the FFN."""
        return Site(self if kind == "ffn" else f"{self}.{kind}")


class Site(str):
    """Name of a site: ``encoder.3.ffn``, ``encoder.3.self.heads``, ``decoder.0.cross.qk``."""

    __slots__ = ()

    @property
    def sublayer(self) -> Sublayer:
        """The sublayer that it belongs to."""
        return Sublayer(".".join(self.split(".")[:3]))

    @property
    def kind(self) -> str:
        """``ffn``, ``heads``, ``qk`` or ``vo``."""
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


# Units or heads: [n]. Dims: [heads, dims]; every head keeps the same number of dims.
Relevance = dict[str, "Tensor"]  # by site; fp32 on the CPU
Keep = dict[str, "Tensor"]  # by site: sorted indices along the last dimension; absent: keep all


@dataclass(frozen=True)
class Shape:
    """Sizes of one sublayer and the parameters of its neurons.

    Attributes:
        units: units of an FFN, or heads of an attention.
        rest: parameters that belong to no neuron, i.e. the output bias.
        unit_cost: parameters of one FFN unit.
        qk, vo: query/key and value/output dims per head.
        qk_cost, vo_cost: parameters of one dim of one head.
    """

    name: Sublayer
    units: int
    rest: int
    unit_cost: int = 0
    qk: int = 0
    vo: int = 0
    qk_cost: int = 0
    vo_cost: int = 0

    @property
    def parameters(self) -> int:
        """Parameters of the whole sublayer."""
        return self.rest + self.units * self.cost(self.whole)

    @property
    def whole(self) -> str:
        """The kind whose removal removes the whole sublayer: ``ffn`` or ``heads``."""
        return "ffn" if self.name.part == "ffn" else "heads"

    def sites(self) -> dict[Site, tuple[int, ...]]:
        """Its sites with the shape of their relevance: (units,), (heads,) or (heads, dims)."""
        if self.whole == "ffn":
            return {self.name.site("ffn"): (self.units,)}
        return {
            self.name.site("heads"): (self.units,),
            self.name.site("qk"): (self.units, self.qk),
            self.name.site("vo"): (self.units, self.vo),
        }

    def cost(self, kind: str) -> int:
        """Parameters that are removed with one neuron of ``kind`` while all others stay."""
        return {
            "ffn": self.unit_cost,
            "heads": self.qk * self.qk_cost + self.vo * self.vo_cost,
            "qk": self.units * self.qk_cost,
            "vo": self.units * self.vo_cost,
        }[kind]

    def without(self, kind: str, number: int) -> "Shape":
        """The sizes after ``number`` neurons of ``kind`` are removed."""
        field = {"ffn": "units", "heads": "units"}.get(kind, kind)
        return replace(self, **{field: getattr(self, field) - number})


def site_sizes(sizes: Sequence[Shape]) -> dict[Site, tuple[int, ...]]:
    """All sites of a model with the shape of their relevance."""
    return {site: size for shape in sizes for site, size in shape.sites().items()}


def keep_sizes(sizes: Sequence[Shape], keep: Mapping[str, "Tensor"]) -> dict[str, list[int]]:
    """``{site: [kept, total]}`` for a keep of the model with these ``sizes``."""
    of = site_sizes(sizes)
    return {site: [kept.shape[-1], of[Site(site)][-1]] for site, kept in keep.items()}
