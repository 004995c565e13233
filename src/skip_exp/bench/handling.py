"""Surgery, loading a skill, and switching between two of them, at the shape of BERT-base."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from skip_exp.bench import data, models
from skip_exp.bench.row import Options, Reach, Row
from skip_exp.bench.timing import side_by_side
from skip_exp.models.backbones import load_backbone
from skip_exp.pruning.surgery import cut
from skip_exp.skill.skill import Skill, SkillAbout, save_skill

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
    shape = "bert-tiny" if options.quick else "bert-base"
    setting = f"{shape} shape"
    with tempfile.TemporaryDirectory() as folder:
        skills = [save(Path(folder), shape, name) for name in ("first", "second")]
        seconds = 1.0 if options.quick else 8.0
        return [
            surgery(shape, setting, seconds),
            *loading(skills[0], setting, seconds),
            second(skills, setting, seconds),
            switching(skills, setting, seconds),
        ]


def save(root: Path, shape: str, name: str) -> Path:
    """A skill of the given shape on the backbone ``root/backbone``, which is made once."""
    path = root / "backbone"
    if not path.exists():
        from transformers import BertModel

        model = BertModel(models.config(shape), add_pooling_layer=False)
        model.save_pretrained(path)
        data.minilm().tokenizer.save_pretrained(path)
    b = load_backbone(shape, str(path), "bert", "head")
    dense = models.prompted(b.model)
    keep = models.keep_at(dense)
    about = SkillAbout(
        task="none",
        text=["sentence"],
        labels=["negative", "positive"],
        words=[],
        backbone={
            "name": shape,
            "path": str(path),
            "family": "bert",
            "readout": "head",
            "pooling": "mean",
            "content_hash": b.content_hash,
        },
        prompt={"kind": "prefix", "length": models.LENGTH, "decoder": False},
        max_length=data.MAX_LENGTH,
        scores={"metric": "none", "validation": None, "data": "none"},
        train="bias",
    )
    smaller = cut(dense, keep)
    smaller.train_only("bias")
    return save_skill(root / name, smaller, keep, about)


def surgery(shape: str, setting: str, seconds: float) -> Row:
    """Seconds of cutting a dense model."""
    dense = models.prompted(models.backbone(models.config(shape)))
    times = side_by_side([partial(cut, dense, models.keep_at(dense))], seconds=seconds)
    reach = Reach(high=1.0, of="ours")
    ours = times.median(0)
    return Row("surgery", setting, ours, unit="s", reach=reach, contended=times.contended)


def loading(skill: Path, setting: str, seconds: float) -> list[Row]:
    """A skill and its backbone from their folders, and the backbone alone."""
    path = skill.with_name("backbone")

    def ours() -> Skill:
        load_backbone.cache_clear()
        return Skill.load(skill)

    def theirs() -> tuple[Any, Any]:
        model = AutoModel.from_pretrained(path, add_pooling_layer=False)
        return model, AutoTokenizer.from_pretrained(path)

    def answer() -> None:
        model, tokenizer = theirs()
        with torch.inference_mode():
            model(**tokenizer(TEXT, return_tensors="pt"))

    first = "loading, to the first answer"
    pairs = {"loading": (ours, theirs), first: (lambda: ours().predict(TEXT), answer)}
    return [_loading(name, setting, pair, seconds) for name, pair in pairs.items()]


def _loading(name: str, setting: str, pair: Sequence[Callable[[], object]], seconds: float) -> Row:
    times = side_by_side(list(pair), seconds=seconds, inference=False)
    ratio, spread = times.ratio(0, 1)
    figures = times.median(0), times.median(1)
    reach = Reach(high=2.0)
    return Row(name, setting, *figures, "s", ratio, spread, reach, times.contended)


def second(skills: list[Path], setting: str, seconds: float) -> Row:
    """A second skill, its backbone in memory."""
    Skill.load(skills[0])
    times = side_by_side([partial(Skill.load, skills[1])], seconds=seconds, inference=False)
    name = "loading a second skill"
    return Row(name, setting, times.median(0), unit="s", contended=times.contended)


def switching(folders: list[Path], setting: str, seconds: float) -> Row:
    """Milliseconds: a text after one for the other skill, less one after its own."""
    one, other = map(Skill.load, folders)
    calls = [
        partial(one.predict, TEXT),  # after the other skill's, see the last call
        partial(one.predict, TEXT),  # after its own
        partial(other.predict, TEXT),
    ]
    times = side_by_side(calls, seconds=seconds)
    switched, stayed = 1e3 * times.median(0), 1e3 * times.median(1)
    setting += f", a text costs {stayed:.0f} ms"
    reach = Reach(high=50.0, of="ours")
    ours = max(0.0, switched - stayed)
    return Row("switching", setting, ours, unit="ms", reach=reach, contended=times.contended)
