"""Tiny backbones with a tokenizer, and skills on them, saved to folders."""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from skip_exp.backbones.load import build_readout, load_backbone
from skip_exp.models import trained
from skip_exp.models.family import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.models.trained import skill_parameters, train_only
from skip_exp.phases.build import new_prompt
from skip_exp.skill.files import save_skill
from skip_exp.skill.record import SkillRecord
from tests.helpers import tiny
from tests.helpers.tiny import TYPED, VOCAB, tiny_backbone

WORDS = [
    *("no", "yes", "very", "good", "bad", "film", "plot", "dull", "warm", "funny", "long"),
    *("a", "the", "is", "was", "it", "and", "not", "of"),
]
SPECIAL = {  # in order of their ids; other families have BERT's
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    "t5": ("<pad>", "</s>", "<unk>"),
}
SPECIAL["xlm-roberta"] = SPECIAL["roberta"]
NOTHING = torch.tensor([], dtype=torch.long)


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """One token a word, ``w0`` to ``wN`` beside the WORDS; the family's special tokens and ids."""
    special = SPECIAL.get(family, SPECIAL["bert"])
    words = [*special, *WORDS]
    words += [f"w{i}" for i in range(VOCAB - len(words))]
    ids = {word: i for i, word in enumerate(words)}
    unknown = next(token for token in special if "unk" in token.lower())
    fast = Tokenizer(models.WordPiece(ids, unk_token=unknown))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = dict.fromkeys(("roberta", "xlm-roberta"), special[0:3:2]) | {"t5": ("", special[1])}
    start, end = ends.get(family, special[2:4])
    fast.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".split(),
        pair=f"{start} $A {end} $B:1 {end}:1".split(),
        special_tokens=[(token, ids[token]) for token in special],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token=next(token for token in special if "pad" in token.lower()),
        unk_token=unknown,
        mask_token=special[4] if family != "t5" else None,
        model_input_names=["input_ids", "attention_mask"]
        + (["token_type_ids"] if family in TYPED else []),
    )


def save_backbone(folder: Path, kind: str, seed: int = 0) -> Path:
    """A backbone as the library saves it; ``kind`` as in ``tests.helpers.tiny``."""
    shutil.copytree(_keep_backbone(kind, seed, tiny.LAYERS).name, folder, dirs_exist_ok=True)
    torch.manual_seed(seed)  # what is drawn next does not depend on who was here before
    return folder


@cache
def _keep_backbone(kind: str, seed: int, layers: int) -> TemporaryDirectory[str]:
    """Where it lies until this process ends; ``layers`` are those that it has."""
    place = TemporaryDirectory()
    tiny_backbone(kind, seed).save_pretrained(place.name)
    tokenizer(kind.split("_")[0]).save_pretrained(place.name)
    return place


@dataclass
class Saved:
    """A skill's folder, its backbone's, and the model that was saved."""

    folder: Path
    backbone: Path
    model: SoftPromptModel
    keep: Keep
    about: SkillRecord


def save_tiny_skill(
    root: Path,
    kind: str = "bert",
    prompt: str = "prefix",
    readout: str = "head",
    *,
    name: str = "skill",
    text: tuple[str, ...] = ("sentence",),
    pooling: str = "mean",
    layers: int | None = None,
    vanish: bool = True,
    train: str = "prompt_readout",
    seed: int = 0,
) -> Saved:
    """A skill on the backbone ``root/backbone``, which is made where there is none."""
    path, family = root / "backbone", kind.split("_")[0]
    if not path.exists():
        save_backbone(path, kind)
    b = load_backbone(kind, str(path), family, readout, layers)
    ids = torch.arange(10 + seed, 14 + seed)
    soft = new_prompt(prompt, b.model, b.family, ids)
    words = ("no", "very good") if readout == "seq2seq" else ("no", "yes")
    head = build_readout(b, 2, words, pooling)
    if readout == "head":
        torch.manual_seed(seed)
        torch.nn.init.normal_(head.linear.weight, std=0.2)
    whole = SoftPromptModel(b.model, b.family, soft, head).eval()
    keep = some_keep(whole, vanish)
    about = SkillRecord(
        task="toy",
        text=list(text),
        label="label",
        labels=["negative", "positive"],
        words=list(words),
        backbone={
            "name": kind,
            "path": str(path),
            "family": family,
            "readout": readout,
            "pooling": pooling,
            "content_hash": b.content_hash,
            **({} if layers is None else {"layers": layers}),
        },
        prompt={"kind": prompt, "length": 4},
        max_length=24,
        scores={"metric": "accuracy", "validation": 0.5, "data": "none"},
        train=train,
        temperature=1.25,
    )
    model = cut(whole, keep)
    model.temperature = about.temperature
    train_only(model, train, rank=2, seed=seed)
    with torch.no_grad():  # as tuning would
        for parameter in skill_parameters(model).values():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    trained.merge_updates(model.backbone)
    if trained.list_factors(model.backbone):
        about = about.changed(rank=2)
    return Saved(save_skill(root / name, model, keep, about), path, model, keep, about)


def tell(saved: Saved, **scores: Any) -> None:
    """Write the skill again with other ``scores``."""
    about = saved.about.changed(scores=saved.about.scores.model_copy(update=scores))
    save_skill(saved.folder, saved.model, saved.keep, about)


def some_keep(model: SoftPromptModel, vanish: bool) -> Keep:
    """Every kind of cut; with ``vanish`` one attention and one FFN sublayer go entirely."""
    attention = set(model.attentions())
    keep: Keep = {}
    for block in model.blocks():
        last = ".1." in block.name
        if block.name not in attention:
            keep[block.name] = NOTHING if vanish and last else torch.tensor([1, 4, 5, 9])
        elif vanish and last:
            keep[f"{block.name}.heads"] = NOTHING
        else:
            keep[f"{block.name}.heads"] = torch.tensor([0, 2])
    return keep
