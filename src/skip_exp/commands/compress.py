"""Cut a fine-tuned classifier, and re-tune it with its own answers.

Example:

    skip-exp compress my-bert tickets.csv --text comment --label verdict --ratio 0.7 --out my-small

MODEL is a folder or a hub id of a model for sequence classification; its id2label names the
classes. --out writes a checkpoint that transformers loads (trust_remote_code=True).
"""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.commands.train import add_arguments, show
from skip_exp.utils import console


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 with the reason in one line; 2 for a wrong argument."""
    line = parser("compress", __doc__)
    line.add_argument("model", metavar="MODEL", help="folder or hub id")
    add_arguments(line)
    line.add_argument("--no-retune", dest="retune", action="store_false", help="cut only")
    line.add_argument("--out", metavar="DIR", help="checkpoint to write; new or empty")
    options = vars(line.parse_intermixed_args(arguments))
    out = options.pop("out")
    print(console.LOADING, flush=True)
    api = console.import_slow(
        "skip_exp.api.compress"
    )  # torch takes seconds: not for a refused argument
    if out:
        console.import_slow("skip_exp.skill.export.folder").check_out(Path(out).expanduser())
    small = api.compress(options.pop("model"), None, options.pop("file"), **options)
    show(small.folder, [])
    if out:
        print(f"written: {small.export(out)}")
    return 0
