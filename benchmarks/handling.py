"""Surgery, loading a skill, and switching between two of them, at the shape of BERT-base."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, BertModel

from benchmarks import models
from benchmarks.tables import Options, Reach, Row
from benchmarks.timing import compare, side_by_side
from skip_exp.models.backbones import load_backbone
from skip_exp.pruning.surgery import cut
from skip_exp.skill.files import save_skill
from skip_exp.skill.record import SkillRecord
from skip_exp.skill.skill import Skill

TITLE = "Surgery, loading, switching"
ABOUT = (
    "Random weights, 52 % cut, prefix prompt of 16, on the CPU. Loading: a skill and its backbone "
    "from their folders (ours) against `from_pretrained` of the backbone and its tokenizer "
    "(theirs), files in the system's cache; ratio: our time over theirs. `from_pretrained` reads "
    "no weight before it is used, a skill checks all of them: to the first answer both have read "
    "theirs. Switching: what a text costs more if the text before it went to another skill of the "
    "same backbone."
)
TEXT = ["a film that is worth its time"]


def measure(options: Options) -> list[Row]:
    """Rows of the three."""
    seconds, setting = options.seconds(8.0), f"{options.shape} shape"
    dense = models.prompted_shape(options.shape)
    surgery = side_by_side([partial(cut, dense, models.keep_at(dense))], seconds=seconds)
    reach = Reach(high=1.0, of="ours")
    with tempfile.TemporaryDirectory() as folder:
        first, second = (save(Path(folder), options.shape, name) for name in ("first", "second"))
        return [
            compare("surgery", setting, surgery, theirs=None, reach=reach),
            *loading(first, second, setting, seconds),
            switching(first, second, setting, seconds),
        ]


def save(root: Path, shape: str, name: str) -> Path:
    """A skill of the given shape on the backbone ``root/backbone``, which is made once."""
    path = root / "backbone"
    if not path.exists():
        BertModel(models.config(shape), add_pooling_layer=False).save_pretrained(path)
        models.minilm().tokenizer.save_pretrained(path)
    backbone = load_backbone(shape, str(path), "bert", "head")
    dense = models.prompted(backbone.model)
    keep = models.keep_at(dense)
    loaded = {"name": shape, "path": str(path), "content_hash": backbone.content_hash}
    record = {
        "task": "none",
        "text": ["sentence"],
        "labels": ["negative", "positive"],
        "words": [],
        "backbone": {"family": "bert", "readout": "head", "pooling": "mean"} | loaded,
        "prompt": {"kind": "prefix", "length": models.LENGTH, "decoder": False},
        "max_length": models.MAX_LENGTH,
        "scores": {},
        "train": "bias",
    }
    smaller = cut(dense, keep)
    smaller.train_only("bias")
    return save_skill(root / name, smaller, keep, SkillRecord.model_validate(record))


def loading(skill: Path, other: Path, setting: str, seconds: float) -> list[Row]:
    """A skill and its backbone from their folders, and the backbone alone; a second skill."""
    path = skill.with_name("backbone")

    def ours() -> Skill:
        load_backbone.cache_clear()  # type: ignore[attr-defined]
        return Skill.load(skill)

    def theirs() -> tuple[Any, Any]:
        model = AutoModel.from_pretrained(path, add_pooling_layer=False)
        return model, AutoTokenizer.from_pretrained(path)

    def answer() -> None:
        model, tokenizer = theirs()
        with torch.inference_mode():
            model(**tokenizer(TEXT, return_tensors="pt"))

    timed = partial(side_by_side, seconds=seconds, inference=False)
    whole, to_answer = timed([ours, theirs]), timed([lambda: ours().predict(TEXT), answer])
    again = timed([partial(Skill.load, other)])  # the backbone is in memory
    reach, first = Reach(high=2.0), "loading, to the first answer"
    return [
        compare("loading", setting, whole, cost=True, reach=reach),
        compare(first, setting, to_answer, cost=True, reach=reach),
        compare("loading a second skill", setting, again, theirs=None),
    ]


def switching(first: Path, second: Path, setting: str, seconds: float) -> Row:
    """Milliseconds: a text after one for the other skill, less one after its own."""
    one, other = Skill.load(first), Skill.load(second)
    # The first call comes after the last one, the other skill's; the second one after its own.
    calls = [partial(skill.predict, TEXT) for skill in (one, one, other)]
    times = side_by_side(calls, seconds=seconds)
    switched, stayed = 1e3 * times.median(0), 1e3 * times.median(1)
    setting += f", a text costs {stayed:.0f} ms"
    reach = Reach(high=50.0, of="ours")
    ours = max(0.0, switched - stayed)
    return Row("switching", setting, ours, unit="ms", reach=reach, contended=times.contended)
