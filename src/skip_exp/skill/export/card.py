"""The model card of an export: base model, licences, labels, scores, size and use."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from skip_exp.backbones.load import NOTES
from skip_exp.data.rows import STAND_IN
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.files import job_result
from skip_exp.skill.record import SkillRecord, is_local

CARD = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
# Hub ids and licences of the bundled backbones. A model's own licence is its owner's to set.
EMBEDDED_CARDS = {"embedded:minilm": "sentence-transformers/all-MiniLM-L6-v2"}
LICENCES = {
    "embedded:roberta_mini": "apache-2.0",
    "embedded:t5_mini": "mit",
    "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0",
}
# Licences of the package's skills, for what starts from them.
START_CARDS = {"skip_exp/nli": "cc-by-sa-4.0"}


def model_card(
    record: SkillRecord,
    model: SoftPromptModel,
    source: Path | None,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    onnx: bool = False,
    int8: bool = False,
    rounding: object = None,
) -> ModelCard:
    """The card of a skill that was read from ``source``, where its job's result may be found.

    Args:
        repo_id: address of the model on the hub, if known.
        license: of the model; None: its owner has not set it.
        onnx, int8: the described export; by default the one for transformers.
        rounding: what 8 bits change, where it is known; it is shown as text.
    """
    result = job_result(source)
    # Without a result, the record has the main metric alone.
    metrics = dict(result.get("metrics", {}))
    metrics.pop("extra", None)
    if not metrics:
        metrics[str(record.scores.metric)] = {"final": record.scores.validation}
    majority = result.get("majority", {})
    hub_id, licence = backbone_origin(record)
    cut = result.get("params", {}).get("block_pruned")
    task = result.get("config", {}).get("task") or {}
    hub = task.get("hub") if str(record.scores.data).startswith("hub:") else None
    data = ModelCardData(
        base_model=hub_id,
        datasets=[hub["path"]] if hub else None,
        library_name="onnx" if onnx else "transformers",
        license=license,  # None: no such field
        pipeline_tag="text-classification",
        tags=["skip_exp", "pruned"] if cut else ["skip_exp"],
    )
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        code=code,
        record=record,
        hub_id=hub_id,
        licence=licence,
        license=license,
        start_licence=START_CARDS.get(record.start or ""),
        note=NOTES.get(record.backbone.path),
        parameters=sum(p.numel() for p in model.parameters()),
        cut=cut,
        vocabulary=getattr(model.backbone.config, "vocabulary", {}),
        is_sample=record.scores.data == STAND_IN,
        scores={name: score["final"] for name, score in metrics.items()},
        dense={name: score.get("dense") for name, score in metrics.items()},
        majority={name: majority.get(name) for name in metrics},
        repo_id=repo_id,
        onnx=onnx,
        int8=int8,
        rounding=rounding,
    )


def code(text: object) -> str:
    """``text`` as a code span: nothing in it is markup."""
    return "`" + " ".join(str(text).split()).replace("`", "'") + "`"


def backbone_origin(record: SkillRecord) -> tuple[str | None, str | None]:
    """Hub id and licence of the backbone; None where unknown."""
    path = record.backbone.path
    hub_id = EMBEDDED_CARDS.get(path)
    if hub_id is None and not path.startswith("embedded:") and not is_local(path):
        hub_id = path
    return hub_id, LICENCES.get(hub_id or path)
