"""``skip-exp cache [DIR] [--prune unused|stale|all]``: what the stage cache holds.

Lists the entries: what each is, its size and age, how many jobs that have a result or run use it,
and whether it is stale (computed by another version of the code, so that no job loads it again)
or damaged. --prune removes the entries that are unused, stale, or all of them, the damaged ones
each time, and what killed processes left behind: temporary files, locks, notes of results that are
gone. What a process holds stays.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from skip_exp.cache.contents import Group, Stored, entries, remove, scan, to_prune
from skip_exp.errors import SkipError

_LABEL = ("task", "backbone", "prompt", "seed", "attribution")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, also where there is no cache; 1 where the folder is something else."""
    parser = argparse.ArgumentParser(
        prog="skip-exp cache",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", default="outputs/.cache", metavar="DIR")
    parser.add_argument("--prune", choices=("unused", "stale", "all"))
    parser.add_argument("--dry-run", action="store_true", help="only say what --prune would remove")
    options = parser.parse_args(arguments)
    if options.dry_run and not options.prune:
        parser.error("--dry-run goes with --prune")
    folder = Path(options.folder)
    if not folder.exists():
        print(f"no cache at {folder}")
        return 0
    try:
        groups = scan(folder)
        stored = entries(groups)
        if options.prune:
            prune(groups, stored, options.prune, options.dry_run)
        else:
            show(stored)
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or folder}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def show(stored: Sequence[Stored]) -> None:
    """A row per entry, and the total."""
    _print_table(stored)
    size = decimal(sum(entry.size for entry in stored))
    unused = sum(entry.users == 0 for entry in stored)
    stale = sum(entry.stale for entry in stored)
    damaged = sum(entry.damaged for entry in stored)
    beside = f", {damaged} damaged" if damaged else ""
    print(f"{_count(len(stored))}, {size}; {unused} unused, {stale} stale{beside}")


def prune(groups: Sequence[Group], stored: Sequence[Stored], which: str, dry_run: bool) -> None:
    """Remove, or with ``dry_run`` only name, what ``which`` asks for and what is left over."""
    gone: set[Path] = set()
    freed = held = 0
    for group, files in to_prune(groups, stored, which):
        size = remove(group, files, dry_run)
        if size is None:
            held += bool(files)
        else:
            freed += size
            gone.update(files)
    removed = [entry for entry in stored if entry.path in gone]
    _print_table(removed)
    others = len(gone) - len(removed)
    message = f"{'would free' if dry_run else 'freed'} {decimal(freed)}: {_count(len(removed))}"
    message += f", {_count(others, 'other file', 'other files')}" if others else ""
    print(message + (f"; {held} in use, kept" if held else ""))


def _count(n: int, one: str = "entry", more: str = "entries") -> str:
    return f"{n} {one if n == 1 else more}"


def _print_table(stored: Sequence[Stored]) -> None:
    if not stored:
        return
    view = Table()
    for name in ("stage", *_LABEL):
        view.add_column(name)
    for name in ("size", "age", "used by"):
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("")
    for entry in stored:
        label = [str(entry.label.get(name, "-")) for name in _LABEL]
        row = [entry.stage, *label, decimal(entry.size), _age(entry.age), str(entry.users)]
        state = "damaged" if entry.damaged else "stale" if entry.stale else ""
        view.add_row(*map(escape, row), state)
    Console(width=None if sys.stdout.isatty() else 160).print(view)


def _age(seconds: float) -> str:
    """In the largest unit that it fills: ``3 d``."""
    unit, length = next(
        (unit_and_length for unit_and_length in _UNITS if seconds >= unit_and_length[1]), _UNITS[-1]
    )
    return f"{max(0, int(seconds // length))} {unit}"
