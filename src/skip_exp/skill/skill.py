"""A skill: the shared backbone, pruned for one task, classifies texts."""

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from skip_exp import results
from skip_exp.data.batches import Row, collate, tokenize
from skip_exp.errors import SkipError
from skip_exp.models.family import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shapes_of
from skip_exp.skill.classifier import TOKENS_PER_BATCH, Classifier, Example
from skip_exp.skill.export.card import CARD, model_card
from skip_exp.skill.export.huggingface import check_push, download, upload, write_huggingface
from skip_exp.skill.files import (
    find_precision,
    job_result,
    read_skill,
    rebuild,
    split,
    write_skill,
)
from skip_exp.skill.ranges import Ranges
from skip_exp.skill.record import FORMATS, RECORD, TENSORS, find_skill, loading, read_bytes
from skip_exp.skill.vocabulary import cut_vocabulary, vocabulary_texts
from skip_exp.utils.files import new_folder

# Of a batch's hidden states and feed-forward activations, mean of the layers. Every batch has a
# fixed cost, which a pruned model feels most; a wide model is slower in larger batches.
BATCH_BYTES = 5 * 2**20


@dataclass(frozen=True, repr=False, eq=False)
class Skill(Classifier):
    """A tuned prompt on its pruned backbone. Skills of one backbone share its untouched weights.

    Example:
        >>> model = Skill.load("outputs/.../skill")
        >>> model.predict(["a warm film"])
        [{'label': 'good', 'probabilities': {'bad': 0.03, 'good': 0.97}}]
        >>> model.evaluate("test.csv")["accuracy"]
        0.92

    Attributes:
        tokenizer, model: the backbone's, the latter pruned for the task.
        keep: neurons that were kept, by site.
        folder: the folder it was read from.
        ranges: see :func:`skip_exp.skill.ranges.measure_ranges`.
    """

    tokenizer: PreTrainedTokenizerBase
    model: SoftPromptModel
    keep: Keep
    folder: Path | None = None
    ranges: Ranges = field(default_factory=dict)

    @classmethod
    def load(
        cls, folder: str | Path, backbone: str | Path | None = None, precision: str = "32-true"
    ) -> "Skill":
        """Read a skill on the CPU.

        Args:
            folder: the folder of the skill or of its job.
            backbone: folder or hub id of the backbone, if it has moved.
            precision: ``32-true``; ``bf16``: weights and activations in bf16, the readout in fp32;
                ``auto``: bf16 where the processor multiplies it faster, else fp32.

        Raises:
            SkipError: the precision is unknown; a file is missing, damaged, altered or of an
                unknown version; the backbone cannot be loaded or is not the skill's own.
        """
        convert = find_precision(precision)
        folder = find_skill(folder)
        about, tensors = read_skill(folder)
        keep, state, ranges = split(tensors)
        with loading(folder):
            model, tokenizer = rebuild(folder, about, keep, state, backbone)
        convert(model)
        return cls(about, tokenizer, model, keep, folder, ranges)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str | Path,
        backbone: str | Path | None = None,
        precision: str = "32-true",
        revision: str | None = None,
    ) -> "Skill":
        """:meth:`load` a skill from the Hugging Face hub (``USER/REPO``) or from a folder.

        Raises:
            SkipError: see :meth:`load`; the hub has no such skill or cannot be reached.
        """
        folder = Path(repo_id).expanduser()
        if not folder.is_dir():
            folder = download(str(repo_id), revision)
        return cls.load(folder, backbone, precision)

    @property
    def result(self) -> Mapping[str, Any]:
        """Scores, sizes and timing of the skill's job; empty where its result is not there."""
        return job_result(self.folder)

    @property
    def megabytes(self) -> float:
        """Size of a checkpoint in fp32, the backbone included, in 10^6 bytes."""
        return 4 * sum(p.numel() for p in self.model.parameters()) / 1e6

    @property
    def batch_tokens(self) -> int:
        """At least ``TOKENS_PER_BATCH``, more for a narrow model or bf16."""
        hidden = self.model.backbone.get_input_embeddings().weight
        units = [shape.units for shape in shapes_of(self.model) if shape.name.part == "ffn"]
        width = hidden.shape[1] + fmean(units)
        return max(TOKENS_PER_BATCH, int(BATCH_BYTES / (width * hidden.element_size())))

    @torch.inference_mode()
    def encode(self, texts: list[list[str]]) -> list[Row]:
        self.model.prompt.install(self.model.attentions())  # constant for all batches
        return tokenize(self.tokenizer, texts, self.about.max_length)[0]

    @torch.inference_mode()
    def answer(self, rows: list[Row]) -> list[list[float]]:
        logits = self.model.logits(**collate(rows, self.tokenizer.pad_token_id))
        return self.about.outcome.probabilities(logits.cpu().numpy()).tolist()

    def with_vocabulary(self, examples: str | Path | Iterable[Example]) -> "Skill":
        """The skill with only the tokens that ``examples`` and its label words use, to export.

        Args:
            examples: as :meth:`predict` takes them; a file, as ``skip-exp predict --file`` reads
                it; or ``train``: the task's train rows.

        Raises:
            SkipError: there are no examples or they cannot be read, or the readout or the tokenizer
                cannot be cut.
        """
        texts, source = vocabulary_texts(self.about, self.folder, examples)
        if not texts:
            raise SkipError(f"--vocabulary {source}: has no text")
        texts += [[word] for word in self.about.words]
        try:
            model, tokenizer, ids = cut_vocabulary(self.model, self.tokenizer, texts)
        except SkipError as error:
            raise SkipError(f"--vocabulary {source}: {error}") from error
        whole = len(self.model.backbone.get_input_embeddings().weight)
        model.backbone.config.vocabulary = {"kept": len(ids), "of": whole, "texts": source}
        return replace(self, model=model, tokenizer=tokenizer)

    def save(self, folder: str | Path) -> Path:
        """Copy the skill, and its job's result, into ``folder``; return it.

        Raises:
            SkipError: ``folder`` is not empty, or cannot be written.
        """
        out = Path(folder).expanduser()
        if self.folder is None:
            raise SkipError(f"{out}: the skill was not read from a folder")
        with new_folder(out) as temporary:
            for name in (RECORD, TENSORS):
                (temporary / name).write_bytes(read_bytes(self.folder / name))
            result = dict(self.result)
            if result:
                (temporary / results.FILE).write_text(json.dumps(result | {"skill": "."}, indent=1))
        return out

    def export(
        self,
        folder: str | Path,
        format: str = "hf",
        *,
        int8: bool = False,
        repo_id: str | None = None,
        license: str | None = None,
        is_judged: bool = False,
        graph: Path | None = None,
    ) -> Path:
        """Write the model for others: ``hf`` (plain transformers) or ``onnx``; return the folder.

        For ``hf`` the skill's own files come along, too. They are left out where every weight was
        trained, because they would be as large as the model, and where the vocabulary was cut,
        because the skill answers by all of it.

        Args:
            int8: onnx only: round weights to 8 bits. It is refused where that costs more than half
                a point on the job's selection slice, beyond a standard error; the card tells it.
            repo_id: hf only: future address on the hub, for the card.
            license: of this model, for the card, such as ``mit``; None: it is left open there.
            is_judged: the caller itself compares 8 bits with fp32.
            graph: onnx only: an earlier export of this skill, whose graph is copied.

        Raises:
            SkipError: ``folder`` is not empty or cannot be written; for onnx, a package is missing
                or the check failed.
        """
        out = Path(folder).expanduser()
        if format not in FORMATS:
            raise SkipError(f"format={format}: must be one of {', '.join(FORMATS)}")
        if int8 and format != "onnx":
            raise SkipError(f"int8: not for format={format}, only for onnx")
        self._check_fp32(str(out))
        # It imports torch.onnx: not for serving.
        from skip_exp.skill.export.onnx.write import check_rounding, write_onnx

        # What others get names no local folder, and truncates and pads as the skill does.
        about = self.about.to_share()
        tokenizer = copy.deepcopy(self.tokenizer)  # skills of one backbone share theirs
        tokenizer.model_max_length = about.max_length  # what pipelines truncate to
        tokenizer.padding_side = "right"  # as the skill pads: positions count from the first token
        is_whole = not hasattr(self.model.backbone.config, "vocabulary")
        rounding = None
        with new_folder(out) as temporary:
            if format == "onnx":
                differences = write_onnx(
                    temporary,
                    about,
                    self.model,
                    tokenizer,
                    int8=int8,
                    ranges=self.ranges,
                    graph=graph,
                )
                if int8 and not is_judged:
                    drift = differences.probabilities
                    rounding = check_rounding(self, self.folder, temporary, drift)
            else:
                write_huggingface(temporary, about, self.model, tokenizer)
                if self.folder is not None and about.train != "full" and is_whole:
                    record, tensors = read_skill(self.folder)
                    write_skill(temporary, tensors, record.to_share().stored())
            model_card(
                about,
                self.model,
                self.folder,
                repo_id=repo_id,
                license=license,
                onnx=format == "onnx",
                int8=int8,
                rounding=rounding,
            ).save(temporary / CARD)
        return out

    def push_to_hub(self, repo_id: str, license: str | None = None) -> str:
        """Upload the skill as ``skip-exp export --format hf`` writes it; return its address.

        Args:
            license: see :meth:`export`.

        Raises:
            SkipError: there is no token, the rows are stand-ins, the weights are not fp32, or the
                hub refuses or cannot be reached.
        """
        check_push(self.about, repo_id)
        self._check_fp32(f"push to {repo_id}")
        with TemporaryDirectory() as name:
            folder = self.export(Path(name) / "skill", repo_id=repo_id, license=license)
            return upload(folder, repo_id)

    def _check_fp32(self, target: str) -> None:
        """Refuse to write bf16 weights: the scores belong to fp32 weights. Raises SkipError."""
        if any(parameter.dtype != torch.float32 for parameter in self.model.parameters()):
            raise SkipError(f"{target}: weights are written in fp32; load the skill with 32-true")
