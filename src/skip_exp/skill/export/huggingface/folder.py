"""Write a folder for plain transformers: model, tokenizer, skill, model card."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.huggingface.convert import write_huggingface
from skip_exp.skill.files import read_skill, write_skill
from skip_exp.skill.record import RECORD, SkillRecord


def write_folder(
    folder: Path,
    about: SkillRecord,
    model: SoftPromptModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Path | None,
    repo_id: str | None = None,
) -> None:
    """Write the export of a skill that was read from ``source``.

    It includes the skill's own files, about 1 MB, so that ``Skill.load`` also reads the folder.
    They are left out if every weight was trained, because they would be as large as the model, and
    if the vocabulary was cut, because the skill answers by all of it.

    Args:
        repo_id: future address on the hub, if known.

    Raises:
        SkipError: the prompt or readout is custom.
    """
    # This imports results and configuration, which a loaded skill does not need.
    from skip_exp.skill.export.card import CARD, model_card

    write_huggingface(folder, about, model, tokenizer)
    is_whole = about.train != "full" and not hasattr(model.backbone.config, "vocabulary")
    if source is not None and (source / RECORD).is_file() and is_whole:
        record, tensors = read_skill(source)
        write_skill(folder, tensors, record.changed(scores=about.scores).stored())
    model_card(about, model, tokenizer, source, repo_id=repo_id).save(folder / CARD)
