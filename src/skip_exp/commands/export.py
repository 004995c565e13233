"""Export a skill without its backbone, for transformers or for ONNX Runtime.

Example:

    skip-exp export outputs/.../skill exported --format onnx --int8

hf: a text classifier that plain transformers loads without skip_exp (trust_remote_code=True, since
its code comes along), and the skill itself, unless its vocabulary is cut or every weight was
trained (tune.train=full). --push-to-hub USER/REPO uploads it.

onnx: model.onnx (input_ids, attention_mask and, for BERT, token_type_ids [batch, length] -> logits
[batch, labels]), config.json (the skill's description) and the tokenizer. The model is checked in
onnxruntime before it appears. With --int8 its weights and activations are 8-bit integers. The
command prints what that costs on the selection slice of the skill's job, and refuses a loss of more
than half a point beyond a standard error. What --within has exported is copied and checked.

--vocabulary keeps the tokens that the task's train rows use, or those of the texts in FILE, which
is read as predict --file reads it. Special tokens and single characters always stay. Answers to
texts of these tokens do not change.

The card states the licence of the base model. Your model's own is --license, such as mit or other.
"""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.errors import SkipError
from skip_exp.skill.record import FORMATS, find_skill
from skip_exp.utils import console


@one_line_errors(2)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 with the reason in one line."""
    line = parser("export", __doc__)
    line.add_argument("skill", metavar="SKILL", help="folder of a skill")
    line.add_argument("out", type=Path, metavar="OUT", help="folder to write; new or empty")
    line.add_argument("--format", choices=FORMATS, default="hf", help="default: hf")
    line.add_argument("--int8", action="store_true", help="8-bit weights (onnx only)")
    texts = "train|FILE|full"
    line.add_argument("--vocabulary", default="full", metavar=texts, help="default: full")
    line.add_argument("--license", metavar="ID", help="of this model, for its card; default: none")
    line.add_argument("--push-to-hub", metavar="USER/REPO", help="upload OUT, too (hf only)")
    line.add_argument("--backbone", help="folder or hub id of the backbone, where it has moved")
    options = line.parse_intermixed_args(arguments)
    repo_id = options.push_to_hub
    if options.int8 and options.format != "onnx":
        raise SkipError(f"--int8: not for --format {options.format}, only for onnx")
    if repo_id and options.format != "hf":
        raise SkipError(f"--push-to-hub: not for --format {options.format}, only for hf")
    folder = find_skill(options.skill)
    from skip_exp.forms.registry import FORMS  # torch: not for a refusal
    from skip_exp.skill.export.huggingface import check_push, upload
    from skip_exp.skill.skill import Skill

    skill = Skill.load(options.skill, options.backbone)
    if repo_id:
        check_push(skill.about, repo_id)
    is_whole = options.vocabulary == "full"
    if not is_whole:
        skill = skill.with_vocabulary(options.vocabulary)
        vocabulary = skill.model.backbone.config.vocabulary
        print(f"vocabulary: {vocabulary['kept']:,} of {vocabulary['of']:,} tokens")
    graph = FORMS["int8"].find_files(folder) if options.int8 and is_whole else None
    with console.shown():
        skill.export(
            options.out,
            options.format,
            int8=options.int8,
            repo_id=repo_id,
            license=options.license,
            graph=graph,
        )
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"written: {options.out} ({size / 1e6:.1f} MB)")
    if repo_id:
        print(f"pushed: {upload(options.out, repo_id)}")
    return 0
