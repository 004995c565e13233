"""One line of the tables: two figures of the same work, their ratio, and what it should reach."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """What the command line asked for.

    Attributes:
        quick: every comparison on little, in minutes; the figures are no result.
        out: folder of tables and picture.
        work: folder of what later runs may use again (tuned models, caches).
        skills: folders of finished skills to serve, in place of newly tuned ones.
    """

    quick: bool
    out: Path
    work: Path
    skills: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Reach:
    """Bounds, both included, of a row's ``ratio`` or of its figure ``ours``."""

    low: float | None = None
    high: float | None = None
    of: str = "ratio"  # ratio | ours


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: what was done.
        setting: on what.
        ours, theirs: figures in ``unit``; ``theirs`` is None where there is nothing beside ours.
        ratio: as the comparison defines it, or None.
        spread: half the interquartile range of the ratio, where it was measured in turns.
        reach: what the figure should reach, or None.
        contended: other processes used the machine meanwhile: the figure is shown, not judged.
    """

    name: str
    setting: str
    ours: float | None
    theirs: float | None = None
    unit: str = ""
    ratio: float | None = None
    spread: float | None = None
    reach: Reach | None = None
    contended: bool = False

    @property
    def judged(self) -> float | None:
        """The figure that the reach is of; None where there is none."""
        of_ours = self.reach is not None and self.reach.of == "ours"
        return self.ours if of_ours else self.ratio

    @property
    def met(self) -> bool | None:
        """Whether the reach was met; None where there is none, or the figure is not to be judged.

        A figure that is missing, or not a number, meets nothing.
        """
        if self.reach is None or self.contended:
            return None
        value = self.judged
        if value is None or value != value:
            return False
        low, high = self.reach.low, self.reach.high
        return (low is None or value >= low) and (high is None or value <= high)


@dataclass(frozen=True)
class Report:
    """A comparison's rows, or why there are none.

    Attributes:
        about: what ours and theirs are, and which way the ratio goes.
        seconds: what the whole comparison took.
    """

    name: str
    title: str
    about: str
    rows: tuple[Row, ...] = ()
    error: str | None = None
    seconds: float = 0.0


def to_plain(row: Row) -> dict[str, Any]:
    """For JSON, with ``met``."""
    return asdict(row) | {"met": row.met}


def from_plain(plain: dict[str, Any]) -> Row:
    """What :func:`to_plain` gave."""
    values = {key: value for key, value in plain.items() if key != "met"}
    reach = values.pop("reach")
    return Row(**values, reach=None if reach is None else Reach(**reach))
