"""Load a skill: the shared backbone, pruned for one task, classifies texts."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import skip_exp.skill.export.huggingface.convert  # noqa: F401  # transformers knows exports
from skip_exp import results
from skip_exp.errors import SkipError
from skip_exp.models.backbones import Backbone, load_backbone
from skip_exp.models.precision import to_bf16, wants_bf16
from skip_exp.skill.export.huggingface.hub import check_push, download, upload
from skip_exp.skill.files import read_skill, split, stored_checksum
from skip_exp.skill.rebuild import check_parts, cut_model, fill
from skip_exp.skill.record import CODE, ONNX, RECORD, SkillRecord
from skip_exp.skill.served import Served


@dataclass(frozen=True, repr=False, eq=False)
class Skill(Served):
    """A tuned prompt on its pruned backbone. Skills of one backbone share its untouched weights.

    Example:
        >>> model = Skill.load("outputs/.../skill")
        >>> model.predict(["a warm film"])
        [{'label': 'good', 'probabilities': {'bad': 0.03, 'good': 0.97}}]
        >>> model.evaluate("test.csv")["accuracy"]
        0.92
    """

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
        is_half = wants_bf16(precision)
        folder = skill_of(Path(folder).expanduser().absolute())
        if not os.path.isfile(folder / RECORD):  # no error where it may not look
            _refuse_export(folder)
        checksum = stored_checksum(folder)  # first: a later change is then noticed
        about, tensors = read_skill(folder)
        keep, state = split(tensors)
        check_parts(folder, about)
        loaded = _backbone(folder, about, backbone)
        model = cut_model(folder, about, loaded.model, loaded.tokenizer, keep, state)
        fill(folder, model, state)
        if is_half:
            to_bf16(model)
        return cls(about, loaded.tokenizer, model.eval(), keep, folder, checksum)

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

    def push_to_hub(self, repo_id: str) -> str:
        """Upload the skill as ``skip-exp export --format hf`` writes it; return its address.

        Raises:
            SkipError: there is no token, the rows are stand-ins, the weights are not fp32, the
                prompt or readout is custom, or the hub refuses or cannot be reached.
        """
        check_push(self.about, repo_id)
        self.check_fp32(f"push to {repo_id}")
        self.check_files(f"push to {repo_id}")
        from skip_exp.skill.export.folder import export  # the exports' writers, not for serving

        with TemporaryDirectory() as name:
            folder = Path(name) / "skill"
            export(self, folder, "hf", repo_id=repo_id)
            return upload(folder, repo_id)

    def save(self, folder: str | Path) -> Path:
        """Copy the skill, and its job's result, into ``folder``; return it.

        Raises:
            SkipError: ``folder`` is not empty, or cannot be written.
        """
        from skip_exp.skill.export.folder import save  # the exports' writers, not for serving

        return save(self, Path(folder).expanduser())

    def export(self, folder: str | Path, format: str = "hf", *, int8: bool = False) -> Path:
        """Write the model for others: ``hf`` (plain transformers) or ``onnx``; return the folder.

        Raises:
            SkipError: ``folder`` is not empty or cannot be written, a package is missing, or the
                prompt or readout is custom.
        """
        from skip_exp.skill.export.folder import export  # the exports' writers, not for serving

        folder = Path(folder).expanduser()
        export(self, folder, format, int8=int8)
        return folder


def skill_of(folder: Path) -> Path:
    """The skill of a job's folder. Else ``folder`` itself."""
    skill = (results.finished(folder) or {}).get("skill")
    is_job = isinstance(skill, str) and not os.path.isfile(folder / RECORD)
    return folder / str(skill) if is_job else folder


def _refuse_export(folder: Path) -> None:
    """Name the right reader for an export in ``folder`` without a skill. Raises SkipError."""
    if os.path.isfile(folder / CODE):
        raise SkipError(
            f"{folder}: an hf export without the skill's own files; "
            "AutoModelForSequenceClassification.from_pretrained loads it"
        )
    if os.path.isfile(folder / ONNX):
        raise SkipError(f"{folder}: an ONNX export; skip_exp.OnnxSkill.load reads it")


def _backbone(folder: Path, about: SkillRecord, backbone_path: str | Path | None) -> Backbone:
    needed = about.backbone
    path = needed.path if backbone_path is None else str(backbone_path)
    try:
        loaded = load_backbone(needed.name, path, needed.family, needed.readout, needed.layers)
    except (SkipError, OSError, ValueError) as error:
        hint = "; where it has moved, name its folder: backbone=, or --backbone"
        message = f"{folder}: its backbone {needed.name} could not be loaded: {error}{hint}"
        raise SkipError(message) from error
    if loaded.content_hash != needed.content_hash:
        raise SkipError(
            f"{folder}: backbone {path} is not the skill's backbone, or it has changed: content "
            f"hash {loaded.content_hash[:12]}, needed {needed.content_hash[:12]}"
        )
    return loaded
