"""The model card of an export: training, pruning, scores, speed and limits."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedTokenizerBase

from skip_exp import results
from skip_exp.models.backbones import NOTES
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.files import job_result
from skip_exp.skill.record import SkillRecord, is_local

CARD = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
# Hub ids and licences of known backbones. A model's own licence is its owner's to set.
EMBEDDED_CARDS = {"embedded:minilm": "sentence-transformers/all-MiniLM-L6-v2"}
LICENCES = {
    "embedded:roberta_mini": "apache-2.0",
    "embedded:t5_mini": "mit",
    "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0",
    "google-bert/bert-base-uncased": "apache-2.0",
    "google-bert/bert-large-uncased": "apache-2.0",
    "FacebookAI/roberta-base": "mit",
    "FacebookAI/roberta-large": "mit",
    "answerdotai/ModernBERT-base": "apache-2.0",
    "answerdotai/ModernBERT-large": "apache-2.0",
    "jhu-clsp/ettin-encoder-17m": "mit",
    "jhu-clsp/ettin-encoder-32m": "mit",
    "jhu-clsp/ettin-encoder-68m": "mit",
    "google-t5/t5-small": "apache-2.0",
    "google-t5/t5-base": "apache-2.0",
    "google-t5/t5-large": "apache-2.0",
    "google/flan-t5-base": "apache-2.0",
}
# Licences of the package's skills, for what starts from them.
START_CARDS = {"skip_exp/nli": "cc-by-sa-4.0"}
# Ours -> the hub's.
HUB_METRICS = {"matthews": "matthews_correlation", "f1_macro": "f1", "f1_micro": "f1"}
NO_RESULT = ("output_dir=", "hydra.", "cache.", "logger", "sweep.")  # overrides left out
CONFIG_SOURCES = {"hydra", "main", "sweeps", "schema"}  # those of the package


def model_card(
    record: SkillRecord,
    model: SoftPromptModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Path | None,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    onnx: bool = False,
    int8: bool = False,
) -> ModelCard:
    """The card of a skill that was read from ``source``, where its job's result may be found.

    Args:
        repo_id: address of the model on the hub, if known.
        license: of the model; None: its owner has not set it.
        onnx, int8: the described export; by default the one for transformers.
    """
    result = job_result(source)
    vocabulary = getattr(model.backbone.config, "vocabulary", {})
    scores = final_scores(record, result)
    told: dict[str, Any] = {
        "plain": plain,
        "code": code,
        "record": record,
        "result": result,
        "origin": backbone_origin(record),
        "trained": what_was_trained(record),
        "start_licence": START_CARDS.get(record.start or ""),
        "cut": _was_cut(result),
        "tokenizer": tokenizer,
        "repo_id": repo_id,
        "license": license,
        "onnx": onnx,
        "int8": int8,
        "scores": scores,
        "split": _task(result).get("validation"),
        "data": _data(record, result),
        "vocabulary": vocabulary,
        "parameters": sum(p.numel() for p in model.parameters()),
        "shapes": model.shapes(),
        "command": job_command(source),
        "note": result.get("backbone_note") or NOTES.get(record.backbone.path),
    }
    # The scores were measured with the whole vocabulary and with fp32 weights.
    data = _metadata(record, result, {} if vocabulary or int8 else scores, onnx)
    data.license = license  # None: no such field
    return ModelCard.from_template(data, template_path=str(TEMPLATE), **told)


def plain(text: object) -> str:
    """``text`` as it stands in a paragraph or cell: nothing in it is markup."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """``text`` as a code span."""
    return "`" + " ".join(str(text).split()).replace("`", "'") + "`"


def _task(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return result.get("config", {}).get("task") or {}


def _was_cut(result: Mapping[str, Any]) -> bool | None:
    """Whether neurons were removed; None without a result."""
    sizes = result.get("keep_sizes")
    if not sizes:
        return None
    return any(kept < of for kept, of in sizes.values())


def what_was_trained(record: SkillRecord) -> list[str]:
    """The parts of the model that tuning changed."""
    prompt, train = record.prompt, record.train
    rank = f", rank {record.rank}" if record.rank else ""
    has_head = record.backbone.readout in ("head", "classifier")
    parts = {
        f"a soft prompt ({prompt.kind}, {prompt.length} tokens)": prompt.kind != "none",
        "every weight of the backbone": train == "full",
        "every weight of the backbone's layers": train == "layers",
        "biases and norms": train in ("bias", "lora"),
        f"low-rank updates (LoRA{rank})": train == "lora",
        "the classification head": has_head and train not in ("none", "prompt"),
    }
    return [part for part, was_trained in parts.items() if was_trained] or ["nothing"]


def _metadata(
    record: SkillRecord, result: Mapping[str, Any], scores: Mapping[str, float], onnx: bool
) -> ModelCardData:
    hub_id, _ = backbone_origin(record)
    hub = _hub(record, result)
    tags = ["skip_exp"]
    tags += ["pruned"] if _was_cut(result) else []
    tags += ["prompt-tuning"] if record.prompt.kind != "none" else []
    return ModelCardData(
        base_model=hub_id,
        datasets=[hub["path"]] if hub else None,
        library_name="onnx" if onnx else "transformers",
        pipeline_tag="text-classification",
        tags=tags,
        model_name=f"{record.task}-{record.backbone.name}",
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=hub.get("path", record.task),
                dataset_name=record.task,
                dataset_config=hub.get("name"),
                dataset_split=_task(result).get("validation"),
                metric_type=HUB_METRICS.get(name, name),
                metric_name=name,
                metric_value=value,
            )
            for name, value in scores.items()
        ],
    )


def backbone_origin(record: SkillRecord) -> tuple[str | None, str | None]:
    """Hub id and licence of the backbone; None where unknown."""
    path = record.backbone.path
    hub_id = EMBEDDED_CARDS.get(path)
    if hub_id is None and not path.startswith("embedded:") and not is_local(path):
        hub_id = path
    return hub_id, LICENCES.get(hub_id or path)


def final_scores(record: SkillRecord, result: Mapping[str, Any]) -> dict[str, float]:
    """{metric: score of the final model on the reported split}."""
    metrics = {name: s for name, s in result.get("metrics", {}).items() if name != "extra"}
    scores = {name: s.get("final") for name, s in metrics.items()}
    scores = scores or {str(record.scores.metric): record.scores.validation}
    return {name: round(value, 4) for name, value in scores.items() if value is not None}


def _hub(record: SkillRecord, result: Mapping[str, Any]) -> dict[str, str]:
    """{path, name} of the dataset on the hub; empty for other data."""
    data = str(record.scores.data)
    if not data.startswith("hub:"):
        return {}
    asked = _task(result).get("hub")
    return dict(asked) if asked else {"path": "/".join(data.removeprefix("hub:").split("/")[:2])}


def _data(record: SkillRecord, result: Mapping[str, Any]) -> str:
    kinds = {"local": "local files", "embedded": "rows that come with skip_exp"}
    kind = str(record.scores.data).partition(":")[0]
    return "/".join(_hub(record, result).values()) or kinds.get(kind, "of unknown origin")


def job_command(source: Path | None) -> str:
    """The command of the job that wrote the skill, from Hydra's records.

    Empty for a command that would not run elsewhere (one with a local path, or with a custom
    ``--config-dir``), and where a later command, which was refused, wrote the records.
    """
    notes = None if source is None else source.parent / ".hydra" / "hydra.yaml"
    try:
        if notes and notes.stat().st_mtime > (notes.parents[1] / results.FILE).stat().st_mtime:
            return ""
        hydra = yaml.safe_load(notes.read_text(encoding="utf-8"))["hydra"] if notes else {}
        given, name = hydra["overrides"]["task"], hydra["job"]["config_name"]
        sources = {each["provider"] for each in hydra["runtime"]["config_sources"]}
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return ""
    own = [each for each in given if not each.lstrip("+~").startswith(NO_RESULT)]
    if sources - CONFIG_SOURCES or any(re.search(r"=['\"]?[/~.]", each) for each in own):
        return ""
    named = [] if name in (None, "config") else ["--config-name", name]
    return shlex.join(["python", "-m", "skip_exp", *named, *own])
