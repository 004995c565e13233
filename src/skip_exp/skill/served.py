"""A skill that answers: its record, its pruned model and its tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from skip_exp import results
from skip_exp.data.batches import Row, collate, tokenize
from skip_exp.errors import SkipError
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.classifier import TOKENS_PER_BATCH, Classifier
from skip_exp.skill.files import stored_checksum
from skip_exp.skill.record import RECORD

# Of a batch's hidden states and feed-forward activations, mean of the layers. Every batch has a
# fixed cost, which a pruned model feels most; a wide model is slower in larger batches.
BATCH_BYTES = 5 * 2**20


@dataclass(frozen=True, repr=False, eq=False)
class Served(Classifier):
    """What exports read of a skill.

    Attributes:
        folder: the folder it was read from.
        checksum: of the files that were read there.
    """

    tokenizer: PreTrainedTokenizerBase
    model: SoftPromptModel
    keep: Keep
    folder: Path | None = None
    checksum: str = ""

    @property
    def result(self) -> Mapping[str, Any]:
        """Scores, sizes and timing of the skill's job; empty where its result is not there."""
        return job_result(self.folder)

    @property
    def batch_tokens(self) -> int:
        """At least ``TOKENS_PER_BATCH``, more for a narrow model or bf16."""
        hidden = self.model.backbone.get_input_embeddings().weight
        units = [shape.units for shape in self.model.shapes() if shape.name.part == "ffn"]
        width = hidden.shape[1] + fmean(units)
        return max(TOKENS_PER_BATCH, int(BATCH_BYTES / (width * hidden.element_size())))

    def check_fp32(self, what: str) -> None:
        """Refuse to write bf16 weights: the scores belong to fp32 weights. Raises SkipError."""
        if any(p.dtype != torch.float32 for p in self.model.parameters()):
            raise SkipError(f"{what}: weights are written in fp32; load the skill with 32-true")

    def check_files(self, what: str) -> None:
        """Refuse to copy files that have changed since the skill was read. Raises SkipError."""
        if self.folder is None:
            return
        if not (self.folder / RECORD).is_file():
            raise SkipError(f"{what}: {self.folder} is gone, from which the skill was loaded")
        if stored_checksum(self.folder) != self.checksum:
            raise SkipError(f"{what}: {self.folder} has changed since the skill was loaded from it")

    @torch.inference_mode()
    def encode(self, texts: list[list[str]]) -> list[Row]:
        self.model.prompt.install(self.model.attention_blocks())  # constant for all batches
        return tokenize(self.tokenizer, texts, self.about.max_length)[0]

    @torch.inference_mode()
    def answer(self, rows: list[Row]) -> list[list[float]]:
        logits = self.model.logits(**collate(rows, self.tokenizer.pad_token_id))
        answers: list[list[float]] = logits.softmax(-1).tolist()
        return answers


def job_result(folder: Path | None) -> Mapping[str, Any]:
    """The result of the job that wrote the skill in ``folder``; empty where there is none.

    It lies beside a job's own skill, and in the folder of a saved one.
    """
    if folder is None:
        return {}
    inside, beside = folder / results.FILE, folder.parent / results.FILE
    found = results.load(inside if inside.is_file() else [beside] if beside.is_file() else [])
    is_own = bool(found) and (inside.is_file() or found[0].get("skill") == folder.name)
    return found[0] if is_own else {}
