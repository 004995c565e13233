"""Write a folder for plain transformers: model, tokenizer, skill, model card."""

import hashlib
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.huggingface.convert import shared_names, write_huggingface
from skip_exp.skill.files import MODEL, read_skill, write_skill
from skip_exp.skill.record import RECORD, SharedRecord, SkillRecord

CODE = "modeling_skip.py"  # the library copies it there


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
    If every weight was trained, they refer to the model's weights. With a cut vocabulary that is
    impossible, so they are left out.

    Args:
        repo_id: future address on the hub, if known.

    Raises:
        SkipError: the prompt or readout is custom.
    """
    # This imports results and configuration, which a loaded skill does not need.
    from skip_exp.skill.export.card import CARD, model_card

    write_huggingface(folder, about, model, tokenizer)
    is_full, is_cut = about.train == "full", hasattr(model.backbone.config, "vocabulary")
    # The whole trained embeddings would outweigh the cut ones.
    if source is not None and (source / RECORD).is_file() and not (is_full and is_cut):
        record, tensors = read_skill(source)
        record = record.changed(scores=about.scores)
        if is_full:
            names = {ours: name for ours, name in shared_names(model).items() if ours in tensors}
            digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
            record = record.changed(shared=SharedRecord(sha256=digest, names=names))
            tensors = {name: t for name, t in tensors.items() if name not in names}
        write_skill(folder, tensors, record.stored())
    model_card(about, model, tokenizer, source, repo_id=repo_id).save(folder / CARD)
