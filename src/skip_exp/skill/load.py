"""Load a skill: the shared backbone, pruned for one task, classifies texts."""

import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import PreTrainedTokenizerBase

from skip_exp.data.batches import collate
from skip_exp.errors import SkipError
from skip_exp.models.backbones import Backbone, load_backbone
from skip_exp.models.precision import check_precision, to_bf16, wants_bf16
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.classifier import Classifier, Row, encode_texts
from skip_exp.skill.export.huggingface.folder import write_folder
from skip_exp.skill.export.huggingface.hub import check_push, download, upload
from skip_exp.skill.files import read_skill, split
from skip_exp.skill.rebuild import check_parts, cut_model, fill
from skip_exp.skill.record import CODE, ONNX, RECORD, SkillRecord

_LOADING = threading.Lock()  # two threads must not read one backbone at once


@dataclass(frozen=True, repr=False)
class Skill(Classifier):
    """A tuned prompt on its pruned backbone. Skills of one backbone share its untouched weights.

    Attributes:
        folder: the folder it was read from.
    """

    tokenizer: PreTrainedTokenizerBase
    model: SoftPromptModel
    keep: Keep
    folder: Path | None = None

    @classmethod
    def load(
        cls, folder: str | Path, backbone: str | Path | None = None, precision: str = "32-true"
    ) -> "Skill":
        """Read a skill on the CPU.

        Args:
            folder: the folder of the skill.
            backbone: folder or hub id of the backbone, if it has moved.
            precision: ``32-true``; ``bf16``: weights and activations in bf16, the readout in fp32;
                ``auto``: bf16 if the processor multiplies it, else fp32.

        Raises:
            SkipError: the precision is unknown; a file is missing, damaged, altered or of an
                unknown version; the backbone cannot be loaded or is not the skill's own.
        """
        check_precision(precision)
        folder = Path(folder)
        with _LOADING:
            if not (folder / RECORD).is_file():
                _refuse_export(folder)
            about, tensors = read_skill(folder)
            keep, state = split(tensors)
            check_parts(folder, about)
            loaded = _backbone(folder, about, backbone)
            model = cut_model(folder, about, loaded.model, loaded.tokenizer, keep)
            fill(folder, model, state)
        if wants_bf16(precision):
            to_bf16(model)
        return cls(about, loaded.tokenizer, model.eval(), keep, folder)

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
        folder = Path(repo_id)
        if not folder.is_dir():
            folder = download(str(repo_id), revision)
        return cls.load(folder, backbone, precision)

    def push_to_hub(self, repo_id: str) -> str:
        """Upload the skill as ``skip-exp export --format hf`` writes it; return its address.

        Raises:
            SkipError: there is no token, the rows are stand-ins, the weights are not fp32, the
                prompt or readout is custom, or the hub refuses or cannot be reached.
        """
        check_push(self.about, repo_id)
        self.check_fp32(f"push to {repo_id}")
        with TemporaryDirectory() as name:
            parts = (self.about.to_share(), self.model, self.tokenizer, self.folder)
            write_folder(Path(name), *parts, repo_id)
            return upload(Path(name), repo_id)

    def check_fp32(self, what: str) -> None:
        """Refuse to write bf16 weights: the scores belong to fp32 weights. Raises SkipError."""
        if any(p.dtype != torch.float32 for p in self.model.parameters()):
            raise SkipError(f"{what}: weights are written in fp32; load the skill with 32-true")

    @torch.inference_mode()
    def encode(self, texts: list[list[str]]) -> list[Row]:
        self.model.prompt.install(self.model.attention_blocks())  # constant for all batches
        return encode_texts(self.tokenizer, texts, self.about.max_length)

    @torch.inference_mode()
    def answer(self, rows: list[Row]) -> list[list[float]]:
        logits = self.model.logits(**collate(rows, self.tokenizer.pad_token_id))
        answers: list[list[float]] = logits.softmax(-1).tolist()
        return answers


def _refuse_export(folder: Path) -> None:
    """Name the right reader for an export in ``folder`` without a skill. Raises SkipError."""
    if (folder / CODE).is_file():
        raise SkipError(
            f"{folder}: an hf export without the skill's own files; "
            "AutoModelForSequenceClassification.from_pretrained loads it"
        )
    if (folder / ONNX).is_file():
        raise SkipError(f"{folder}: an ONNX export; skip_exp.OnnxSkill.load reads it")


def _backbone(folder: Path, about: SkillRecord, backbone_path: str | Path | None) -> Backbone:
    needed = about.backbone
    path = needed.path if backbone_path is None else str(backbone_path)
    try:
        loaded = load_backbone(needed.name, path, needed.family, needed.readout, needed.layers)
    except (SkipError, OSError, ValueError) as error:
        message = f"{folder}: its backbone {needed.name} could not be loaded: {error}"
        raise SkipError(message) from error
    if loaded.content_hash != needed.content_hash:
        raise SkipError(
            f"{folder}: backbone {path} is not the skill's backbone, or it has changed: content "
            f"hash {loaded.content_hash[:12]}, needed {needed.content_hash[:12]}"
        )
    return loaded
