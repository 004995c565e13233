"""Sites: the neurons of a model, their names and their cost in parameters.

A site is one kind of neuron in one sublayer: the units of an FFN, or the heads, query/key dims or
value/output dims of an attention. Relevance, keep, skill files and results are keyed by site. Only
this module builds and parses the names. It imports no torch, because reports use it, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from skip_exp.config.names import KINDS

if TYPE_CHECKING:
    from torch import Tensor

ATTENTION_KINDS = KINDS[1:]


class Sublayer(str):
    """Name of a sublayer, ``<stack>.<layer>.<self|cross|ffn>``, e.g. ``encoder.3.self``."""

    __slots__ = ()

    @classmethod
    def of(cls, stack: str, layer: int, part: str) -> "Sublayer":
        return cls(f"{stack}.{layer}.{part}")

    @property
    def stack(self) -> str:
        """``encoder`` or ``decoder``."""
        return self.split(".")[0]

    @property
    def layer(self) -> int:
        return int(self.split(".")[1])

    @property
    def part(self) -> str:
        """``self``, ``cross`` or ``ffn``."""
        return self.split(".")[2]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its neurons."""
        return KINDS[:1] if self.part == "ffn" else ATTENTION_KINDS

    def site(self, kind: str) -> "Site":
        """Its neurons of one kind: an FFN's site has the name of the FFN itself."""
        return Site(self if kind == "ffn" else f"{self}.{kind}")


class Site(str):
    """Name of a site: ``encoder.3.ffn``, ``encoder.3.self.heads``, ``decoder.0.cross.qk``."""

    __slots__ = ()

    @property
    def sublayer(self) -> Sublayer:
        return Sublayer(".".join(self.split(".")[:3]))

    @property
    def kind(self) -> str:
        """``ffn``, ``heads``, ``qk`` or ``vo``."""
        return self.split(".")[-1]

    @property
    def like(self) -> str:
        """Its name without the layer, e.g. ``decoder.cross.heads``.

        Relevances compare within it only: an encoder's add up over a text's tokens, a decoder's
        over one or two. Ranked together, a T5 would lose all cross-attention first.
        """
        stack, _, rest = self.split(".", 2)
        return f"{stack}.{rest}"


# Units or heads: [n]. Dims: [heads, dims]; every head keeps the same number of dims.
Relevance = dict[str, "Tensor"]  # by site; fp32 on the CPU
Keep = dict[str, "Tensor"]  # by site: sorted indices along the last dimension; absent: keep all


@dataclass(frozen=True)
class Shape:
    """Sizes of one sublayer and the parameters of its neurons.

    An attention has ``units`` heads of ``qk`` query/key and ``vo`` value/output dims; ``qk_cost``
    and ``vo_cost`` are for one dim of one head. An FFN has ``units`` of ``unit_cost``. ``rest``
    counts the output bias.
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
        attention = self.qk * self.qk_cost + self.vo * self.vo_cost
        return self.rest + self.units * (self.unit_cost + attention)

    @property
    def whole(self) -> str:
        """The kind whose removal removes the whole sublayer: ``ffn`` or ``heads``."""
        return "ffn" if self.name.part == "ffn" else "heads"

    def sites(self) -> dict[Site, tuple[int, ...]]:
        """Its sites with the shape of their relevance: (units,), (heads,) or (heads, dims)."""
        sizes: dict[str, tuple[int, ...]] = {
            "ffn": (self.units,),
            "heads": (self.units,),
            "qk": (self.units, self.qk),
            "vo": (self.units, self.vo),
        }
        return {self.name.site(kind): sizes[kind] for kind in self.name.kinds}

    def cost(self, kind: str) -> int:
        """Parameters that go with one neuron of ``kind`` while all others stay."""
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


class HasShape(Protocol):
    """A sublayer of a model (:mod:`models.families`)."""

    def shape(self) -> Shape: ...


def shapes(blocks: Iterable[HasShape]) -> list[Shape]:
    """The current sizes of a model's sublayers."""
    return [block.shape() for block in blocks]


def site_sizes(sizes: Sequence[Shape]) -> dict[Site, tuple[int, ...]]:
    """All sites with the shape of their relevance."""
    return {site: size for shape in sizes for site, size in shape.sites().items()}


def keep_sizes(sizes: Sequence[Shape], keep: Mapping[str, "Tensor"]) -> dict[str, list[int]]:
    """``{site: [kept, total]}`` for a keep of the model with these ``sizes``."""
    of = site_sizes(sizes)
    return {site: [kept.shape[-1], of[Site(site)][-1]] for site, kept in keep.items()}
