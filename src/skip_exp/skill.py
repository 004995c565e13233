"""A skill at work: the shared backbone cut to what one task needs, answering texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from skip_exp.errors import SkipError
from skip_exp.models.backbones import Backbone, first_line, load_backbone
from skip_exp.models.families import FAMILIES
from skip_exp.models.precision import check_precision, to_bf16, wants_bf16
from skip_exp.models.prompts import build_prompt
from skip_exp.models.readouts import build_readout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import Changes, apply
from skip_exp.pruning.surgery import Keep, cut
from skip_exp.skill_file import ABOUT, SkillAbout, read_skill, save_skill, split

__all__ = ["Prediction", "Skill", "SkillAbout", "save_skill"]

TOKENS_PER_BATCH = 1024  # padding included; on a CPU larger batches fall out of the cache
CHUNK = 8192  # texts that are sorted by length together

Example = str | Sequence[str] | Mapping[str, Any]  # a text, two texts, or the task's columns


class Prediction(TypedDict):
    """One answer: the likeliest label, and every label's probability."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Skill:
    """A tuned prompt on its cut backbone. Skills of one backbone share its untouched weights."""

    about: SkillAbout
    model: SoftPromptModel
    tokenizer: PreTrainedTokenizerBase
    keep: Keep

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backbone: str | Path | None = None,
        precision: str = "32-true",
    ) -> "Skill":
        """Read a skill, or the stand-alone model that ``skip_exp.export`` wrote, on the CPU.

        Args:
            folder: where they were written to.
            backbone: folder or hub id to take the backbone from, where it has moved.
            precision: ``32-true``; ``bf16``: weights and activations in bf16, the readout in fp32;
                ``auto``: bf16 where the processor multiplies it, else fp32.

        Raises:
            SkipError: another precision; a file is missing, damaged, altered or of an unknown
                version; the backbone cannot be had or is not the one that the skill was made on.
        """
        check_precision(precision)
        folder = Path(folder)
        if not (folder / ABOUT).is_file() and (folder / "config.json").is_file():
            from skip_exp.export import load_exported

            skill = load_exported(folder)
        else:
            skill = cls._read(folder, backbone)
        if wants_bf16(precision):
            to_bf16(skill.model)
        return skill

    @classmethod
    def _read(cls, folder: Path, backbone: str | Path | None) -> "Skill":
        about, tensors = read_skill(folder)
        found = _backbone(folder, about, backbone)
        keep, changes, state = split(tensors)
        model = cut_model(folder, about, found.model, found.tokenizer, keep, changes)
        _fill(folder, model, state)
        return cls(about, model.eval(), found.tokenizer, keep)

    def predict(
        self, examples: Sequence[Example], batch_tokens: int = TOKENS_PER_BATCH
    ) -> list[Prediction]:
        """Labels and probabilities of any number of examples, in their order.

        Args:
            examples: texts, pairs of texts, or mappings with the task's columns.
            batch_tokens: batch size in tokens, padding included; examples run in order of length.

        Raises:
            SkipError: an example that is not what the task takes.
        """
        if isinstance(examples, str | Mapping):
            raise SkipError("predict takes a list of examples, not a single one")
        answers: list[Prediction] = []
        for start in range(0, len(examples), CHUNK):
            part = examples[start : start + CHUNK]
            texts = [example_texts(self.about, x, start + i) for i, x in enumerate(part, 1)]
            answers += [self._answer(row) for row in self._probabilities(texts, batch_tokens)]
        return answers

    def _answer(self, row: list[float]) -> Prediction:
        best = max(range(len(row)), key=row.__getitem__)
        probabilities = dict(zip(self.about.labels, row, strict=True))
        return {"label": self.about.labels[best], "probabilities": probabilities}

    @torch.inference_mode()
    def _probabilities(self, texts: list[list[str]], batch_tokens: int) -> list[list[float]]:
        rows = encode_texts(self.tokenizer, texts, self.about.max_length)
        found: dict[int, list[float]] = {}
        self.model.prompt.install(self.model.attention_blocks())  # constant from here on
        for batch in token_batches([len(row["input_ids"]) for row in rows], batch_tokens):
            logits = self.model.logits(
                **collate([rows[i] for i in batch], self.tokenizer.pad_token_id)
            )
            found |= zip(batch, logits.softmax(-1).tolist(), strict=True)
        return [found[i] for i in range(len(rows))]


def example_texts(about: SkillAbout, example: Example, number: int) -> list[str]:
    """The one or two texts of an example; ``number`` (from 1) is for the message."""
    if isinstance(example, Mapping):
        from skip_exp.data.spec import fill, text_columns  # its package takes a second to import

        columns = dict.fromkeys(c for entry in about.text for c in text_columns(entry))
        for column in columns:
            if example.get(column) is None:
                has = ", ".join(map(str, example)) or "nothing"
                raise SkipError(
                    f"example {number}: task {about.task} needs column {column!r} (it has: {has})"
                )
        row = {column: str(example[column]) for column in columns}
        return [fill(entry, row) for entry in about.text]
    texts = [example] if isinstance(example, str) else list(example)
    if len(texts) != len(about.text):
        wanted = "one text" if len(about.text) == 1 else "two texts"
        raise SkipError(
            f"example {number}: task {about.task} takes {wanted} ({', '.join(about.text)}), "
            f"not {len(texts)}"
        )
    if odd := [text for text in texts if not isinstance(text, str)]:
        raise SkipError(f"example {number}: {odd[0]!r} is not a text")
    return texts


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int
) -> list[dict[str, list[int]]]:
    """Token ids, mask and, where the model has them, token types of every text or pair."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, truncation=True, max_length=max_length)
    return [
        dict(zip(encoded.keys(), row, strict=True)) for row in zip(*encoded.values(), strict=True)
    ]


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in order of length, in batches of at most ``budget`` tokens, padding included.

    A single text longer than the budget is a batch of its own.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[i] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def collate(rows: list[dict[str, list[int]]], pad_id: int) -> dict[str, Tensor]:
    """Tensors [n, longest], right-padded."""
    return {
        key: pad_sequence(
            [torch.tensor(row[key]) for row in rows],
            batch_first=True,
            padding_value=pad_id if key == "input_ids" else 0,
        )
        for key in rows[0]
    }


def _backbone(folder: Path, about: SkillAbout, moved: str | Path | None) -> Backbone:
    wanted = about.backbone
    path = wanted["path"] if moved is None else str(moved)
    try:
        found = load_backbone(wanted["name"], path, wanted["family"], wanted["readout"])
    except SkipError as error:
        raise SkipError(
            f"{folder}: its backbone {wanted['name']} is not to be had: {error}"
        ) from error
    if found.content_hash != wanted["content_hash"]:
        raise SkipError(
            f"{folder}: backbone {path} is not the one it was made on, or has changed: content "
            f"hash {found.content_hash[:12]}, needed {wanted['content_hash'][:12]}"
        )
    return found


def cut_model(
    folder: Path,
    about: SkillAbout,
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    keep: Keep,
    changes: Changes,
) -> SoftPromptModel:
    """``backbone`` cut to ``keep`` and changed; its prompt and readout are yet to be filled."""
    try:
        whole = uncut_model(about, backbone, tokenizer)
        unknown = set(keep) - known_sites(whole)
        if unknown:
            raise ValueError(f"the backbone has no {min(unknown)}")
        smaller = cut(whole, keep)
        apply(smaller, changes)
        smaller.train_only(about.train)
        return smaller
    except (SkipError, ValueError, RuntimeError, IndexError, KeyError, TypeError) as error:
        raise SkipError(f"{folder}: does not fit its backbone: {first_line(error)}") from error


def uncut_model(
    about: SkillAbout, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> SoftPromptModel:
    """The whole ``backbone`` with an empty prompt and readout of the skill's kinds and sizes."""
    family, prompt = FAMILIES[about.backbone["family"]], about.prompt
    soft = build_prompt(
        prompt["kind"],
        backbone,
        family,
        length=prompt["length"],
        ids=None,
        std=0.0,
        seed=0,
        decoder=prompt["decoder"],
    )
    readout = build_readout(
        about.backbone["readout"],
        backbone,
        tokenizer,
        labels=len(about.labels),
        words=tuple(about.words),
        pooling=about.backbone["pooling"],
    )
    return SoftPromptModel(backbone, family, soft, readout)


def whole_model(about: SkillAbout, tokenizer: PreTrainedTokenizerBase) -> SoftPromptModel:
    """As fast as the skill's dense model was: the whole backbone, prompt and readout untrained."""
    b = about.backbone
    backbone = load_backbone(b["name"], b["path"], b["family"], b["readout"])
    return uncut_model(about, backbone.model, tokenizer)


def known_sites(model: SoftPromptModel) -> set[str]:
    """Every site that ``keep`` may name."""
    attention = model.attention_blocks()
    kinds = {f"{name}.{kind}" for name in attention for kind in ("heads", "qk", "vo")}
    return kinds | {block.name for block in model.blocks() if block.name not in attention}


def _fill(folder: Path, model: SoftPromptModel, state: Mapping[str, Tensor]) -> None:
    """Put prompt and readout in place; nothing is made to fit."""
    trained = model.skill_parameters()
    for name in sorted(trained.keys() | state.keys()):
        wanted = tuple(trained[name].shape) if name in trained else "nothing"
        found = tuple(state[name].shape) if name in state else "nothing"
        if wanted != found:
            raise SkipError(f"{folder}: does not fit its backbone: {name} is {found}, not {wanted}")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state[name])
