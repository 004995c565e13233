"""Cut a fine-tuned classifier, and re-tune it with its own answers.

Examples:

    skip-exp compress my-bert tickets.csv --text comment --label verdict --ratio 0.7 --out my-small
    skip-exp compress my-bert tickets.csv --text comment --label verdict --within 1

MODEL is a folder or a hub id of a model for sequence classification, whose id2label names the
classes; or an uncut skill, or its hf export. --out writes a checkpoint that transformers loads
(trust_remote_code=True). --within N finds the fastest model that loses at most N points.

A fifth of FILE is scored. On rows that MODEL was trained on, its own score is too high, and
cutting seems to cost more than it does: give --validation FILE, with rows that it has not seen.
"""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.api.task import read_given
from skip_exp.commands.line import one_line_errors, parser
from skip_exp.commands.train import add_arguments, parse, show
from skip_exp.config.compose import compose_config
from skip_exp.utils import console, files


@one_line_errors(2)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0; 1 if the job failed, 2 if it was refused, with the reason in one line."""
    line = parser("compress", __doc__)
    line.add_argument("model", metavar="MODEL", help="folder or hub id")
    add_arguments(line)
    line.add_argument("--no-retune", dest="retune", action="store_false", help="cut only")
    line.add_argument("--out", metavar="DIR", help="checkpoint to write; new or empty")
    about = "names of the model's classes in its order, where its id2label has none"
    line.add_argument("--classes", type=lambda text: text.split(","), metavar="A,B", help=about)
    options = parse(line, arguments)
    model, file, out = options.pop("model"), options.pop("file"), options.pop("out")
    # Torch takes seconds: keys, files and columns are checked before.
    cfg = compose_config("config", ["experiment=compress", *options["overrides"]])
    read_given(file, None, options["text"], options["label"], options["validation"], cfg)
    is_search = options["within"] is not None or cfg.prune.within is not None
    if out and is_search:
        line.error("argument --out: not allowed with prune.within")
    print(console.LOADING, flush=True)
    api = console.import_slow("skip_exp.api.compress")
    if out:
        files.check_out(Path(out).expanduser())
    small = api.compress(model, None, file, **options)
    if not is_search:  # else the search has shown it
        show(small.folder, [])
        if out:
            print(f"written: {small.export(out)}")
    if options["validation"] is None:
        print(f"scores:  on rows of {file}; if the model was trained on them: --validation FILE")
    return 0
