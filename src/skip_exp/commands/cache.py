"""Show the size of the stage cache, or remove what no job has used for some days.

Examples:

    skip-exp cache size
    skip-exp cache prune --days 30
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from rich.filesize import decimal

from skip_exp.cache.store import UNFINISHED
from skip_exp.commands.line import one_line_errors, parser
from skip_exp.errors import SkipError

KEY = re.compile("[0-9a-f]{16}|[0-9a-f]{32}")  # of a job, of a stage
DAY = 24 * 60 * 60  # seconds


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, also without a cache; 1 where the folder cannot be read or written."""
    line = parser("cache", __doc__)
    folder = Path("outputs/.cache")
    line.add_argument("--dir", type=Path, default=folder, help="cache.dir of the jobs")
    verbs = line.add_subparsers(dest="verb", required=True)
    verbs.add_parser("size", help="bytes and entries per stage")
    unused = verbs.add_parser("prune", help="remove entries without use for --days")
    unused.add_argument("--days", type=float, required=True, metavar="N")
    options = line.parse_args(arguments)
    if options.verb == "prune" and not options.days >= 0:  # NaN, too
        line.error(f"--days {options.days:g}: must be at least 0")
    try:
        if options.verb == "size":
            show_size(options.dir)
        else:
            prune(options.dir, options.days)
    except OSError as error:
        raise SkipError(f"{error.filename or options.dir}: {error.strerror or error}") from error
    return 0


def list_entries(folder: Path) -> Iterator[Path]:
    """The entries of all stages, also unfinished ones; any other file is left alone."""
    for path in sorted(folder.glob("*/*")):
        if path.suffix[1:] in ("safetensors", *UNFINISHED) and KEY.fullmatch(path.stem):
            yield path


def show_size(folder: Path) -> None:
    """Print bytes and number of entries per stage, and their sums."""
    found = []
    for path in list_entries(folder):
        with suppress(FileNotFoundError):  # another command removed it
            found.append((path.parent.name, path.stat().st_size))
    for stage in dict.fromkeys(name for name, _ in found):
        sizes = [size for name, size in found if name == stage]
        print(f"{stage:10} {decimal(sum(sizes)):>10} in {len(sizes)} entries")
    print(f"{folder}: {decimal(sum(size for _, size in found))} in {len(found)} entries")


def prune(folder: Path, days: float) -> None:
    """Remove entries that were last used more than ``days`` days ago, and print what that freed.

    An entry whose lock another process holds is kept.
    """
    freed = removed = held = 0
    for path in list_entries(folder):
        try:
            if path.stat().st_mtime > time.time() - days * DAY:
                continue
            lock = FileLock(path.with_suffix(".lock"))
            with lock.acquire(blocking=False):
                try:
                    for file in [*path.parent.glob(f"{path.stem}*.tmp"), path]:
                        freed += file.stat().st_size
                        file.unlink()
                finally:
                    # While it is held: a process that waits for it sees that, and starts again.
                    Path(lock.lock_file).unlink(missing_ok=True)
        except Timeout:
            held += 1
            continue
        except FileNotFoundError:  # another command removed it
            continue
        removed += 1
    kept = f"; kept {held} in use" if held else ""
    print(f"freed {decimal(freed)}: removed {removed} entries{kept}")
