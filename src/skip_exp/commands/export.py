"""``skip-exp export SKILL OUT --format hf|onnx``: without its backbone.

hf: what plain transformers loads as a text classifier, without skip_exp (``modeling_skip.py`` comes
along: ``trust_remote_code=True``), and the skill itself; ``--push-to-hub USER/REPO`` uploads it.
onnx: ``model.onnx`` (input_ids, attention_mask and, for BERT, token_type_ids [batch, length] ->
logits [batch, labels]), ``config.json`` (the skill's description) and the tokenizer; checked in
onnxruntime before it appears. With ``--int8`` its weights are 8-bit integers.
Every format with ``--vocabulary train|FILE``: of the vocabulary only the tokens that the task's
train rows use, or the texts of FILE (as ``skip-exp predict --file`` reads it), and every special
token and single character; texts of these tokens are answered as before.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from skip_exp.commands.predict import read_examples
from skip_exp.errors import ExampleError, SkipError
from skip_exp.skill.classifier import example_texts
from skip_exp.skill.export.folder import FORMATS, export
from skip_exp.skill.export.huggingface.hub import check_push, upload
from skip_exp.skill.load import Skill
from skip_exp.skill.vocabulary import train_texts, with_vocabulary


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 with one line of why."""
    parser = argparse.ArgumentParser(
        prog="skip-exp export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("skill", metavar="SKILL", help="folder of a skill")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; new or empty")
    parser.add_argument("--format", choices=FORMATS, default="hf")
    parser.add_argument(
        "--int8", action="store_true", help="onnx only: 8-bit weights: a smaller file"
    )
    parser.add_argument(
        "--vocabulary",
        default="full",
        metavar="train|FILE|full",
        help="keep the tokens of these texts only; default: full",
    )
    parser.add_argument("--push-to-hub", metavar="USER/REPO", help="hf only: upload OUT, too")
    parser.add_argument("--backbone", help="folder or hub id of the backbone, where it has moved")
    options = parser.parse_args(arguments)
    try:
        if options.int8 and options.format != "onnx":
            raise SkipError(f"--int8: not for --format {options.format}, only for onnx")
        if options.push_to_hub and options.format != "hf":
            raise SkipError(f"--push-to-hub: not for --format {options.format}, only for hf")
        skill = Skill.load(options.skill, options.backbone)
        if options.push_to_hub:
            check_push(skill.about, options.push_to_hub)
        if options.vocabulary != "full":
            skill = _with_vocabulary(skill, options.vocabulary)
        repo_id = options.push_to_hub
        size = export(skill, options.out, options.format, int8=options.int8, repo_id=repo_id)
        print(f"written: {options.out} ({size / 1e6:.1f} MB)")
        if options.push_to_hub:
            print(f"pushed: {upload(options.out, options.push_to_hub)}")
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _with_vocabulary(skill: Skill, asked: str) -> Skill:
    """The skill with the tokens of ``asked`` alone, and a line that says how many. SkipError."""
    if asked == "train":
        cut = with_vocabulary(skill, train_texts(skill), asked)
    else:
        examples, _ = read_examples((), Path(asked))
        try:
            texts = [example_texts(skill.about, each, n) for n, each in enumerate(examples, 1)]
        except ExampleError as error:
            raise SkipError(f"line {error.number} of {asked}: {error.why}") from error
        cut = with_vocabulary(skill, texts, Path(asked).name)
    kept = cut.model.backbone.config.vocabulary
    print(f"vocabulary: {kept['kept']:,} of {kept['of']:,} tokens")
    return cut
