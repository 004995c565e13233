"""Cut a fine-tuned classifier, and re-tune it with its own answers.

Examples:

    skip-exp compress my-bert tickets.csv --text comment --label verdict --ratio 0.7 --out my-small
    skip-exp compress my-bert tickets.csv --text comment --label verdict --within 1

MODEL is a folder or a hub id of a model for sequence classification; its id2label names the
classes. --out writes a checkpoint that transformers loads (trust_remote_code=True). --within N
finds the fastest model that loses at most N points.
"""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.api.task import read_tables
from skip_exp.commands.line import one_line_errors, parser
from skip_exp.commands.train import add_arguments, parse, show
from skip_exp.config.compose import compose_config
from skip_exp.utils import console


@one_line_errors(2)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0; 1 if the job failed, 2 if it was refused, with the reason in one line."""
    line = parser("compress", __doc__)
    line.add_argument("model", metavar="MODEL", help="folder or hub id")
    add_arguments(line)
    line.add_argument("--no-retune", dest="retune", action="store_false", help="cut only")
    line.add_argument("--out", metavar="DIR", help="checkpoint to write; new or empty")
    options = parse(line, arguments)
    out = options.pop("out")
    if out and options["within"] is not None:
        line.error("argument --out: not allowed with argument --within")
    # Torch takes seconds: keys, files and columns are checked before.
    compose_config("config", ["experiment=compress", *options["overrides"]])
    reading = ("text", "label", "validation", "group", "sep", "encoding")
    tables = read_tables(options.pop("file"), **{name: options[name] for name in reading})
    print(console.LOADING, flush=True)
    api = console.import_slow("skip_exp.api.compress")
    if out:
        console.import_slow("skip_exp.skill.export.folder").check_out(Path(out).expanduser())
    options |= {"validation": tables.get("validation")}
    small = api.compress(options.pop("model"), None, tables["train"], **options)
    if options["within"] is not None:
        return 0  # everything is said
    show(small.folder, [])
    if out:
        print(f"written: {small.export(out)}")
    return 0
