"""The commands that make a small classifier: of rows, or of a classifier that is fine-tuned."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import skip_exp
from skip_exp import results
from skip_exp.commands.line import one_line_errors, parser
from skip_exp.config.groups import FASTEST
from skip_exp.config.together import values_of
from skip_exp.utils import files


@one_line_errors(2)
def train(arguments: Sequence[str] | None = None) -> int:
    """Train a small classifier on your own file: tune, prune, tune again, test, time.

    Examples:

        skip-exp train tickets.csv --text comment --label verdict
        skip-exp train tickets.csv --text comment --label verdict --within 1
        skip-exp train pairs.jsonl --text premise --text hypothesis --ratio 0.7 tune.epochs=4

    The file is CSV, TSV, JSON or JSON lines, each also with .gz, or Parquet. Without --validation a
    fifth of its rows is set apart. KEY=VALUE sets any other key; skip-exp +task=sst2 --cfg job
    shows them. The last lines name the skill and the commands that use it.

    --within N finds the model that answers one text fastest among those that lose at most N points.
    With --for batches, texts a second decide. A table compares the model with the uncut one and
    with baselines.

    Exit code: 0; 1 if the job failed, 2 if it was refused, with the reason in one line.
    """
    line = parser("train", train.__doc__)
    add_arguments(line)
    line.add_argument("--backbone", help="a choice of backbone= (default: minilm, for English)")
    options = parse(line, arguments)
    skill = skip_exp.fit(options.pop("file"), **options)
    if not finds_model(options):  # else the search has shown it
        show(skill.folder)
    return 0


@one_line_errors(2)
def compress(arguments: Sequence[str] | None = None) -> int:
    """Cut a fine-tuned classifier, and re-tune it with its own answers as teacher.

    Examples:

        skip-exp compress my-bert tickets.csv --text comment --label verdict --out my-small
        skip-exp compress my-bert tickets.csv --text comment --label verdict --within 1

    MODEL is a folder or a hub id of a model for sequence classification, whose id2label names the
    classes; or an uncut skill, or its hf export. --out writes a checkpoint that transformers loads
    (trust_remote_code=True). --within N finds the fastest model that loses at most N points. It
    takes no --out; its folder jobs/ holds skills for skip-exp export.

    A fifth of FILE is scored. On rows that MODEL was trained on, its own score is too high, and
    cutting seems to cost more than it does: give --validation FILE, with rows that it has not seen.

    Exit code: 0; 1 if the job failed, 2 if it was refused, with the reason in one line.
    """
    line = parser("compress", compress.__doc__)
    line.add_argument("model", metavar="MODEL", help="folder or hub id")
    add_arguments(line)
    line.add_argument("--no-retune", dest="retune", action="store_false", help="cut only")
    line.add_argument(
        "--out", metavar="DIR", help="checkpoint to write, new or empty; not with --within"
    )
    line.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        metavar="A,B",
        help="names of the model's classes in its order, where its id2label has none",
    )
    options = parse(line, arguments)
    model = options.pop("model")
    file = options.pop("file")
    out = options.pop("out")
    is_search = finds_model(options)
    if out and is_search:
        line.error("argument --out: not allowed with prune.within")
    if out:
        files.check_out(Path(out).expanduser())
    small = skip_exp.compress(model, file, **options)
    if not is_search:  # else the search has shown it
        show(small.folder)
        if out:
            print(f"written: {small.export(out)}")
    return 0


def add_arguments(line: ArgumentParser) -> None:
    """The arguments of `skip_exp.fit` that name the rows and the cut."""
    line.add_argument("file", metavar="FILE", help="rows with texts and labels")
    line.add_argument(
        "--text",
        action="append",
        metavar="COLUMN",
        help="column of the texts; twice for pairs (default: text)",
    )
    line.add_argument(
        "--label",
        type=columns,
        default="label",
        metavar="COLUMN",
        help="default: label; several columns of 0 and 1 as A,B,C",
    )
    line.add_argument("--validation", metavar="FILE", help="rows that are scored")
    line.add_argument("--ratio", help="fraction to remove (default: 0.5)")
    line.add_argument(
        "--within",
        type=float,
        metavar="POINTS",
        help="instead of a ratio: find the fastest model that loses at most so many points",
    )
    line.add_argument(
        "--for",
        choices=FASTEST,
        help="what --within makes fast: one text at a time (default), or batches",
    )
    line.add_argument(
        "--output", default="outputs", metavar="DIR", help="folder of results (default: outputs)"
    )
    line.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="further settings, such as retune.epochs=4 data.sep=/ task.kind=many_labels",
    )


def parse(line: ArgumentParser, arguments: Sequence[str] | None) -> dict[str, Any]:
    """The values of :func:`add_arguments` and of the command's own arguments, by name."""
    options = vars(line.parse_intermixed_args(arguments))
    fastest = options.pop("for")
    if fastest:
        options["overrides"].append(f"prune.fastest={fastest}")
    return options | {"text": options["text"] or "text"}


def finds_model(options: Mapping[str, Any]) -> bool:
    """Whether the command searches by `prune.within`."""
    return options["within"] is not None or "prune.within" in values_of(options["overrides"])


def columns(text: str) -> str | list[str]:
    """One column or, joined by commas, several, for ``type=``."""
    return text.split(",") if "," in text else text


def show(skill: Path) -> None:
    """The job's table, and what to do with its skill."""
    (result,) = results.load(skill.parent / results.FILE)
    from skip_exp.report import tables  # it brings pandas: not for a refused argument

    tables.show_jobs([result])
    print(results.next_steps(result))
