"""A cut model as one that transformers loads without this package; to the hub, and from there.

An export carries ``models/modeling_skip.py`` and the files that it imports. Once this module is
imported, loading needs no ``trust_remote_code``; ``from skip_exp import Skill`` imports it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from skip_exp.data.rows import STAND_IN
from skip_exp.errors import SkipError, first_line
from skip_exp.models.modeling_skip import SkipConfig, SkipForSequenceClassification
from skip_exp.models.prompts import PROMPT_CLASSES
from skip_exp.models.readouts import READOUT_CLASSES, HeadReadout, MlmReadout, Seq2SeqReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.outcomes.registry import OUTCOMES, Outcome
from skip_exp.skill.record import CODE, RECORD, TENSORS, SkillRecord
from skip_exp.utils.hub import explain_failure, hub_reachable, offline_if_unreachable

AutoConfig.register(SkipConfig.model_type, SkipConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    SkipConfig, SkipForSequenceClassification, exist_ok=True
)

# Of the backbone's configuration: where it came from, and what says nothing of the cut model.
LEFT_OUT = ("_name_or_path", "architectures", "dtype", "transformers_version", "auto_map")
PROMPT_KINDS = {prompt: kind for kind, prompt in PROMPT_CLASSES.items()}
READOUT_KINDS = {readout: kind for kind, readout in READOUT_CLASSES.items()}
SKILL_FILES = [RECORD, TENSORS]  # what `download` needs of a repository


def write_huggingface(
    folder: Path, about: SkillRecord, model: SoftPromptModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """``config.json``, ``model.safetensors``, the files of ``models`` and the tokenizer."""
    origin = {
        "task": about.task,
        "text": about.text,
        "max_length": about.max_length,
        "backbone": about.backbone.model_dump(include={"name", "content_hash"}),
        "scores": about.scores.model_dump(),
    }
    if about.threshold is not None:
        origin["threshold"] = about.threshold
    vocabulary = getattr(model.backbone.config, "vocabulary", None)
    if vocabulary:
        origin["vocabulary"] = vocabulary
    to_huggingface(model, about.labels, origin, about.outcome).save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # the library lets only their owner read them
        shutil.copymode(folder / "config.json", weights)
    tokenizer.save_pretrained(folder)


def to_huggingface(
    model: SoftPromptModel,
    labels: Sequence[str],
    origin: dict[str, Any] | None = None,
    outcome: Outcome = OUTCOMES["one_label"],
) -> SkipForSequenceClassification:
    """The same function as a Hugging Face model, which shares the backbone's weights.

    Args:
        labels: class names in label order.
        origin: where the model comes from, for ``config.json``.
    """
    uncut = model.backbone.config.to_dict()
    config = SkipConfig(
        backbone={key: value for key, value in uncut.items() if key not in LEFT_OUT},
        kept=_describe_keep(model),
        prompt={"kind": PROMPT_KINDS[type(model.prompt)], "length": model.prompt.length},
        readout=_describe_readout(model),
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        problem_type=outcome.problem_type,
        logits_temperature=model.temperature,
        skill=origin or {},
    )
    return SkipForSequenceClassification(config, model.copy()).train(False)


def _describe_keep(model: SoftPromptModel) -> dict[str, Any]:
    """By site: the heads that are left, or the number of units."""
    keep: dict[str, Any] = {}
    for block in model.blocks():
        if block.attention is not None:
            keep[block.name.site] = block.attention.head_ids.tolist()
        else:
            keep[block.name.site] = block.output.in_features
    return keep


def _describe_readout(model: SoftPromptModel) -> dict[str, Any]:
    readout = model.readout
    described: dict[str, Any] = {"kind": READOUT_KINDS[type(readout)]}
    if isinstance(readout, HeadReadout):
        described["pooling"] = readout.pooling
    elif isinstance(readout, MlmReadout):
        described["words"] = readout.word_ids[:, None].tolist()
        described["mask_id"] = readout.mask_id
    elif isinstance(readout, Seq2SeqReadout):
        described["words"] = readout.words()
    return described


def check_push(about: SkillRecord, repo_id: str) -> None:
    """Check that a skill may be pushed, before anything is written.

    Raises:
        SkipError: stand-in rows, or there is no token.
    """
    if about.scores.data == STAND_IN:
        raise SkipError(
            f"push to {repo_id}: {about.task} was tuned on SNLI pairs as stand-ins; tune it on the "
            "task's own data"
        )
    if not huggingface_hub.get_token():
        raise SkipError(f"push to {repo_id}: no hub token; run `hf auth login` or set HF_TOKEN")


def upload(folder: Path, repo_id: str) -> str:
    """Upload ``folder`` as the model ``repo_id``, which may exist, and return its address.

    Raises:
        SkipError: the hub refuses or cannot be reached.
    """
    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repo_id, repo_type="model", exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            commit_message="Skill by skip_exp",
            delete_patterns=SKILL_FILES,  # else an old skill stays beside a new model
        )
    except Exception as error:  # any error of its HTTP library
        reason = first_line(error) if hub_reachable() else "the hub cannot be reached from here"
        raise SkipError(f"push to {repo_id}: {reason}") from error
    return str(address)


def download(repo_id: str, revision: str | None = None) -> Path:
    """Folder of the skill ``repo_id``, from the hub or its cache.

    Only its own files are downloaded, and the model's code, which marks an hf export.

    Raises:
        SkipError: there is none, or the hub cannot be reached.
    """
    offline_if_unreachable()
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id, revision=revision, allow_patterns=[*SKILL_FILES, CODE]
        )
    except Exception as error:  # any error of its HTTP library
        raise SkipError(f"{repo_id}: no folder, and {explain_failure(error, repo_id)}") from error
    return Path(folder)
