"""The commands that the pages of this project name, and what stands beside them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skip_exp.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCKER = "docker run .* skip_exp"  # what follows is what follows `skip-exp`
START = rf"(?:python -m skip_exp|skip-exp|{DOCKER}|python examples/|make )"
CELL = re.compile(rf"`({START}[^`]*)`([^|]*)")
LINE = re.compile(rf"({START}.*?)(?:\s+#(.*))?$")
NEEDS = re.compile(r"\b(needs a hub|needs a GPU|needs a cluster|needs W&B|needs rows|long)\b")


@dataclass(frozen=True)
class Command:
    """One command of a page; ``needs``: what it is marked with."""

    page: str
    text: str
    needs: str | None

    @property
    def words(self) -> list[str]:
        return shlex.split(re.sub(f"^{DOCKER}", "skip-exp", self.text))

    @property
    def program(self) -> str:
        """``make``, ``job``, the path of an example, a command's name, or a module of tables."""
        first, *rest = self.words
        if first == "python" and rest[0] == "-m":
            first, rest = rest[1], rest[2:]
        if first in ("skip-exp", "skip_exp"):
            return rest[0] if rest[0] in COMMANDS else "job"
        return rest[0] if first == "python" else first

    @property
    def arguments(self) -> list[str]:
        first, *rest = self.words
        if first == "python":
            rest = rest[2 if rest[0] == "-m" else 1 :]
        return rest[1:] if self.program in COMMANDS else rest


def commands() -> list[Command]:
    """Every command of the pages, once a page."""
    return [each for page in PAGES for each in dict.fromkeys(of_page(page))]


def of_page(page: Path) -> Iterator[Command]:
    """The commands of fenced and indented blocks, and of cells of tables."""
    name, fenced = page.relative_to(ROOT).as_posix(), False
    for line in page.read_text(encoding="utf-8").replace("\\\n", "").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif (fenced or line.startswith("    ")) and (found := LINE.match(line.strip())):
            yield _command(name, found[1], found[2] or "")
        elif not fenced and line.startswith("|"):
            for cell in CELL.finditer(line):
                yield _command(name, cell[1], cell[2])


def _command(page: str, text: str, remark: str) -> Command:
    needs = NEEDS.search(remark)
    return Command(page, text.strip(), needs[1] if needs else None)


def block(page: Path, first: str) -> str:
    """The fenced block of ``page`` whose first line is ``first``."""
    found = re.search(rf"```\w*\n({re.escape(first)}\n.*?)```", page.read_text(), re.DOTALL)
    assert found, f"{page.name}: no block begins with {first!r}"
    return found[1]
