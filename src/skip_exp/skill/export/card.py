"""The model card of a skill: what it is, how good, what was cut, how it was made, its limits."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from skip_exp import results
from skip_exp.models.backbones import NOTES
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.record import SkillRecord

# Where a backbone is on the hub, and its licence. All others: their id, and no licence is claimed.
EMBEDDED = {
    "embedded:minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "embedded:minilm_roberta": "sentence-transformers/all-MiniLM-L6-v2",
}
LICENCES = {
    "embedded:roberta_mini": "apache-2.0",
    "embedded:t5_mini": "mit",
    "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0",
    "google-bert/bert-base-uncased": "apache-2.0",
    "google-bert/bert-large-uncased": "apache-2.0",
    "FacebookAI/roberta-base": "mit",
    "FacebookAI/roberta-large": "mit",
    "google-t5/t5-small": "apache-2.0",
    "google-t5/t5-base": "apache-2.0",
    "google-t5/t5-large": "apache-2.0",
    "google/flan-t5-base": "apache-2.0",
}
METRICS = {"matthews": "matthews_correlation", "f1_macro": "f1"}  # the hub's names of ours
Vocabulary = Mapping[str, Any]  # {kept, of, texts} of one that was cut; else empty
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What changes no result, or names folders of the machine.
LEFT_OUT = ("output_dir=", "hydra.", "cache.", "logger", "data.dir=", "task.files", "sweep.")


def model_card(
    about: SkillRecord, model: SoftPromptModel, source: Path | None, repo_id: str | None = None
) -> ModelCard:
    """The card of a skill that was read from ``source``, beside which its job's result may lie.

    Args:
        repo_id: where it will be on the hub, if that is known.
    """
    written = document(about, model, source, {"Use": _use(about, repo_id)})
    result = job_result(source)
    # What was scored had the whole vocabulary.
    scores = {} if _kept_tokens(model) else final_scores(about, result)
    return ModelCard(f"---\n{_metadata(about, result, scores).to_yaml()}\n---\n\n{written}\n")


def document(
    about: SkillRecord, model: SoftPromptModel, source: Path | None, use: Mapping[str, str]
) -> str:
    """Markdown on a skill: ``use``, parts by their title, and what is the same in every format."""
    result = job_result(source)
    vocabulary = _kept_tokens(model)
    parts = {
        "": _introduction(about),
        **use,
        "Scores": _scores(about, result, vocabulary),
        "What was cut": _cut(model, result, vocabulary),
        "Speed": _speed(result),
        "How it was made": _made(source, result),
        "Limits": _limits(about, result),
    }
    return "\n\n".join(
        (f"## {title}\n\n" if title else "") + content.strip()
        for title, content in parts.items()
        if content
    )


def _kept_tokens(model: SoftPromptModel) -> Vocabulary:
    """What was kept of it; empty: all."""
    kept: Vocabulary = getattr(model.backbone.config, "vocabulary", {})
    return kept


def job_result(source: Path | None) -> Mapping[str, Any]:
    """The result of the job that wrote the skill in ``source``; empty if it is not there."""
    if source is None or not (path := source.parent / results.FILE).is_file():
        return {}
    found = results.load(path)
    return found[0] if found and found[0].get("skill") == source.name else {}


def _metadata(
    about: SkillRecord, result: Mapping[str, Any], scores: Mapping[str, float]
) -> ModelCardData:
    hub_id, licence = backbone_origin(about)
    hub = _hub(about, result)
    return ModelCardData(
        license=licence,
        base_model=hub_id,
        datasets=[hub["path"]] if hub else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["skip_exp", "pruned", "prompt-tuning"],
        model_name=f"{about.task}-{about.backbone.name}",
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=hub.get("path", about.task),
                dataset_name=about.task,
                dataset_config=hub.get("name"),
                dataset_split="validation",
                metric_type=METRICS.get(name, name),
                metric_name=name,
                metric_value=value,
            )
            for name, value in scores.items()
        ],
    )


def backbone_origin(about: SkillRecord) -> tuple[str | None, str | None]:
    """Hub id and licence of the backbone, as far as they are known."""
    path = about.backbone.path
    hub_id = EMBEDDED.get(path)
    if hub_id is None and HUB_ID.fullmatch(path) and not Path(path).exists():
        hub_id = path
    return hub_id, LICENCES.get(hub_id or path)


def final_scores(about: SkillRecord, result: Mapping[str, Any]) -> dict[str, float]:
    """{metric: of the finished model on the validation split}."""
    metrics = {name: s for name, s in result.get("metrics", {}).items() if name != "extra"}
    scores = {name: s.get("final") for name, s in metrics.items()}
    scores = scores or {str(about.scores.metric): about.scores.validation}
    return {name: round(value, 4) for name, value in scores.items() if value is not None}


def _hub(about: SkillRecord, result: Mapping[str, Any]) -> dict[str, str]:
    """{path, name} of the data on the hub, where they came from there."""
    data = str(about.scores.data)
    if not data.startswith("hub:"):
        return {}
    asked = result.get("config", {}).get("task", {}).get("hub") or {}
    return dict(asked) if asked else {"path": "/".join(data.removeprefix("hub:").split("/")[:2])}


def _introduction(about: SkillRecord) -> str:
    hub_id, licence = backbone_origin(about)
    b, prompt = about.backbone, about.prompt
    where = f"[{hub_id}](https://huggingface.co/{hub_id})" if hub_id else f"`{b.name}`"
    terms = f"licence {licence}" if licence else "its licence holds for this model, too"
    tuned = {"none": "A readout"}.get(
        prompt.kind, f"A soft prompt ({prompt.kind}, {prompt.length} tokens)"
    )
    return f"""# {about.task} on {b.name}, cut

{tuned} for the task {about.task}, tuned on {where} ({terms}; content hash `{b.content_hash}`),
whose neurons that the task does not need were cut away: its matrices are smaller, nothing is
masked. Made by skip_exp."""


def _use(about: SkillRecord, repo_id: str | None) -> str:
    place = f'"{repo_id}"' if repo_id else "FOLDER_OR_ID"
    one = len(about.text) == 1
    example = '"a text"' if one else '{"text": "one text", "text_pair": "another"}'
    columns = ", ".join(f"`{column}`" for column in about.text)
    takes = "One text" if one else "Two texts"
    return f"""```python
from transformers import pipeline

classify = pipeline("text-classification", model={place}, trust_remote_code=True)
classify({example}, truncation=True)
```

`AutoModelForSequenceClassification.from_pretrained(..., trust_remote_code=True)` has the logits;
the code is the one file `modeling_skip.py`. {takes} as in the task's {columns}; labels:
{", ".join(f"`{label}`" for label in about.labels)}."""


def _scores(about: SkillRecord, result: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    majority, rows = result.get("majority", {}), result.get("n_eval")
    lines = ["| metric | before the cut | this model | majority class |", "|---|---|---|---|"]
    for name, value in final_scores(about, result).items():
        dense = result.get("metrics", {}).get(name, {}).get("dense")
        lines.append(
            f"| {name} | {_number(dense)} | {_number(value)} | {_number(majority.get(name))} |"
        )
    hub = "/".join(_hub(about, result).values())
    data = {"local": "local files", "sample": "generated sample data"}
    count = f", {rows} rows" if rows else ""
    source = hub or data.get(str(about.scores.data).partition(":")[0], "of unknown origin")
    if drawn := result.get("train_rows"):
        source += f", {drawn} of its train rows"
    told = f"On the validation split{count}. Data: {source}."
    if vocabulary:
        told += (
            " Measured with the whole vocabulary: with this one, texts of words that it lacks may "
            "be answered in another way."
        )
    return "\n".join(lines) + f"\n\n{told}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cut(model: SoftPromptModel, result: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    params = result.get("params", {})
    lines = []
    if params:
        lines += [
            f"{params['block_pruned']:.0%} of the parameters of attention and FFN layers, "
            f"{params['all_pruned']:.0%} of all: {params['all_before'] / 1e6:.1f} M before, "
            f"{params['all_after'] / 1e6:.1f} M after.",
            "",
        ]
    if vocabulary:
        lines += [_vocabulary(model, params, vocabulary), ""]
    lines += ["What is left:", "", "| sublayer | heads or units | of each head |", "|---|---|---|"]
    for shape in model.shapes():
        dims = f"{shape.qk} query/key, {shape.vo} value" if shape.whole == "heads" else ""
        lines.append(f"| `{shape.name}` | {shape.units} | {dims} |")
    return "\n".join(lines)


def _vocabulary(model: SoftPromptModel, params: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    texts = vocabulary["texts"]
    told = (
        f"Of the vocabulary, {vocabulary['kept']:,} of {vocabulary['of']:,} tokens are left: those "
        f"that {'the train rows' if texts == 'train' else f'the texts of `{texts}`'} use, special "
        "tokens, and all single characters, into which other words are split."
    )
    if params:
        before, after = params["all_before"], sum(p.numel() for p in model.parameters())
        told += (
            f" With it {1 - after / before:.0%} of all parameters are gone: {before / 1e6:.1f} M "
            f"before, {after / 1e6:.1f} M after."
        )
    return told


def _speed(result: Mapping[str, Any]) -> str:
    latency = result.get("latency", {})
    if not latency.get("speedup"):
        return "Not measured."
    if latency.get("contended"):
        return "Not known: it was measured beside other load."
    return (
        f"{latency['speedup']:.2f} times as fast as before the cut: {latency['dense_ms']:.1f} ms "
        f"-> {latency['final_ms']:.1f} ms a batch of {latency['batch']} texts of "
        f"{latency['seq_len']} tokens, "
        f"{latency['dtype']}, {latency['threads']} threads, on {latency['device']}."
    )


def _made(source: Path | None, result: Mapping[str, Any]) -> str:
    lines = []
    if command := job_command(source):
        lines += ["```", command, "```", ""]
    if result:
        with_ = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        lines.append(
            f"{result['finished']}, seed {result['seed']}, commit {result['git_commit']}; {with_}."
        )
    return "\n".join(lines)


def job_command(source: Path | None) -> str:
    """The command of the job that wrote the skill, from what Hydra noted of it; or empty."""
    notes = None if source is None else source.parent / ".hydra" / "hydra.yaml"
    try:
        hydra = yaml.safe_load(notes.read_text(encoding="utf-8"))["hydra"] if notes else {}
        given, name = hydra["overrides"]["task"], hydra["job"]["config_name"]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return ""
    named = [] if name in (None, "config") else ["--config-name", name]
    own = [override for override in given if not override.lstrip("+~").startswith(LEFT_OUT)]
    return shlex.join(["python", "-m", "skip_exp", *named, *own])


def _limits(about: SkillRecord, result: Mapping[str, Any]) -> str:
    limits = [
        f"Texts are read up to {about.max_length} tokens.",
        "It answers this one task; what was cut away is what other tasks might need.",
        "It carries whatever bias its backbone and its training data have; none was looked for.",
        "Scores are of one run with one seed, on the split that is named, and say nothing of texts "
        "of another kind.",
    ]
    if note := result.get("backbone_note") or NOTES.get(about.backbone.path):
        limits.insert(0, f"Backbone: {note}.")
    if about.scores.data == "sample":
        limits.insert(0, "**Tuned on generated sample data: its scores prove nothing.**")
    return "\n".join(f"- {limit}" for limit in limits)
