"""Measure everything side by side: ``python -m skip_exp.bench [--quick] [--only NAME ...]``.

Each comparison runs in a process of its own, one after the other; the tables are written after each
of them, so that an interrupted run leaves what it has. Tuned models are kept in ``--work`` and used
again. Real rows are read where SKIP_EXP_DATA names their folder, generated ones otherwise.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from skip_exp.bench import runner, summary, writer
from skip_exp.bench.row import Options, Report
from skip_exp.errors import SkipError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 where a comparison failed, 2 where the command is refused."""
    parser = argparse.ArgumentParser(
        prog="python -m skip_exp.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="on little: does everything run?")
    names = ", ".join(runner.COMPARISONS)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"some of: {names}")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"), metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path("outputs/.bench"), metavar="DIR")
    parser.add_argument(
        "--skill",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a finished sst2 or rte skill to serve, in place of a newly tuned one",
    )
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help="put the short table between its two marks"
    )
    given = parser.parse_args(arguments)
    options = Options(given.quick, given.out, given.work, tuple(given.skill))
    try:
        check(given.readme, whole=not (given.quick or given.only))
        return measure(runner.chosen(given.only), options, given.readme)
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nerror: interrupted; measured so far: {given.out}/bench.md", file=sys.stderr)
        return 130


def check(readme: Path | None, whole: bool) -> None:
    """Refuse what could not be written at the end."""
    if readme is not None:
        if not whole:
            raise SkipError("--readme takes a whole run: without --quick and --only")
        summary.parts(readme)


def measure(names: Sequence[str], options: Options, readme: Path | None) -> int:
    """Run the comparisons and write what they found; the exit code."""
    options.out.mkdir(parents=True, exist_ok=True)
    runner.unbind()
    machine = runner.machine()
    print(f"{machine['device']}, {machine['threads']} threads", flush=True)
    reports: list[Report] = []
    for name in names:
        print(f"{name} ...", flush=True)
        reports.append(runner.run(name, options))
        tell(reports[-1])
        writer.write(options.out, machine, options.quick, reports)
    if readme is not None:
        summary.refresh(readme, reports)
    total = sum(report.seconds for report in reports)
    print(f"{total:.0f} s; written: {options.out}/bench.md, .json")
    return 1 if any(report.error is not None for report in reports) else 0


def tell(report: Report) -> None:
    """A comparison's rows on the terminal."""
    if report.error is not None:
        print(f"error: {report.name}: {report.error}", file=sys.stderr, flush=True)
    for row in report.rows:
        name, setting, ours, theirs, ratio, reach, met = writer.cells(row)
        parts = [ours, f"against {theirs}" if theirs else "", f"ratio {ratio}" if ratio else ""]
        parts += [f"(reach {reach}: {met.strip('*')})" if reach else met.strip("*")]
        print(f"  {name}, {setting}: {' '.join(filter(None, parts))}", flush=True)
    print(f"  {report.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
