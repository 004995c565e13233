"""Write the folder that plain transformers loads: model, tokenizer, skill, model card."""

import hashlib
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.huggingface.convert import shared_names, write_huggingface
from skip_exp.skill.files import MODEL, read_skill, write_skill
from skip_exp.skill.record import RECORD, SharedRecord, SkillRecord

CODE = "modeling_skip.py"  # which the library puts there


def write_folder(
    folder: Path,
    about: SkillRecord,
    model: SoftPromptModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Path | None,
    repo_id: str | None = None,
) -> None:
    """Write everything of a skill that was read from ``source``.

    The skill's own files, about 1 MB, come along, so that ``Skill.load`` takes the folder, too
    (an export has none). Where every weight was trained, they share the model's weights; with a cut
    vocabulary they cannot, and are left out.

    Args:
        repo_id: where it will be on the hub, if that is known.

    Raises:
        SkipError: a custom prompt or readout.
    """
    # With the results and the configuration, which a skill that only answers does not need.
    from skip_exp.skill.export.card import CARD, model_card

    write_huggingface(folder, about, model, tokenizer)
    is_full, is_cut = about.train == "full", hasattr(model.backbone.config, "vocabulary")
    # Of a skill whose embeddings were trained, the whole ones would outweigh the cut ones.
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
