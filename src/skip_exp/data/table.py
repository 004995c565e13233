"""Rows as they were given, and how the text file was written that they are from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skip_exp.config.checks import separator, text_encoding
from skip_exp.errors import DataError
from skip_exp.utils.files import Stamp, stamp

log = logging.getLogger(__name__)

_TOLD = 20  # bad rows that a message names


@dataclass(frozen=True)
class Dialect:
    """How a CSV or JSON file is written.

    Example:
        >>> Dialect(sep=";", encoding="latin-1")

    Attributes:
        sep: a character, or ``\\t``; None: a tab in a .tsv, else comma, semicolon or tab, whichever
            divides the header line into most columns.
        encoding: UTF-8 and UTF-16 may begin with their mark.

    Raises:
        ConfigError: none of these, or an encoding that Python does not know.
    """

    sep: str | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        separator("sep", self.sep)
        text_encoding("encoding", self.encoding)


@dataclass(frozen=True)
class Table:
    """Rows as they were given.

    Attributes:
        where: the rows come from, for messages.
        rows: {number: {column: cell}}; an empty cell is None.
        unit: what the numbers count, e.g. ``line``.
        bad: {number: why} of rows that cannot be read.
        stamp: of the file as it was read; None for rows that were in memory.
        dialect: that the file was read with.
        sep: between the columns of a file; empty where it has none.
    """

    where: str
    rows: dict[int, dict[str, Any]]
    unit: str = "row"
    bad: dict[int, str] = field(default_factory=dict)
    stamp: Stamp | None = None
    dialect: Dialect = Dialect()
    sep: str = ""

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows.values()]

    def serves(self, path: Path, columns: Sequence[str], dialect: Dialect) -> bool:
        """Whether reading ``path`` for these columns would give the same rows."""
        has_columns = all(row.keys() >= {*columns} for row in self.rows.values())
        is_same = self.stamp is None or (self.stamp, self.dialect) == (stamp(path), dialect)
        return has_columns and is_same

    def report_bad(self, bad: Mapping[int, str], drop: bool, fix: str, allowed: str = "") -> None:
        """Name all bad rows at once: as a warning where they are dropped, else a DataError.

        Args:
            fix: what sets ``drop``; empty where that would leave nothing.
            allowed: the labels that are, if one is not.
        """
        if not bad:
            return
        told: dict[str, list[int]] = {}  # by reason: a wrong column has one for most of its rows
        for number in sorted(bad)[:_TOLD]:
            told.setdefault(bad[number], []).append(number)
        reasons = [f"{self.unit} {', '.join(map(str, at))}: {why}" for why, at in told.items()]
        if len(bad) > _TOLD:
            reasons.append(f"and {len(bad) - _TOLD} more")
        rows = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
        text = f"{self.where}: {rows}: {'; '.join(reasons)}{allowed}"
        if not drop:
            raise DataError(f"{text}; {fix} leaves them out" if fix else text)
        log.warning("data: left out: %s", text)
