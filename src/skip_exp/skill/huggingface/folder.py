"""The folder that plain transformers loads: model, tokenizer, the skill's own files, model card."""

from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.about import ABOUT, SkillAbout
from skip_exp.skill.files import TENSORS, read_described, write_described
from skip_exp.skill.huggingface.convert import write_huggingface

CARD = "README.md"


def write_folder(
    folder: Path,
    about: SkillAbout,
    model: SoftPromptModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Path | None,
    repo_id: str | None = None,
) -> None:
    """Write everything of a skill that was read from ``source``.

    The skill's own files, a few kilobytes, come along, so that ``Skill.load`` takes the folder, too
    (an export has none). No file tells in which folder of this machine the data were.

    Args:
        repo_id: where it will be on the hub, if that is known.

    Raises:
        SkipError: a prompt or readout of somebody's own.
    """
    # With the results and the configuration, which a skill that only answers does not need.
    from skip_exp.skill.huggingface.card import model_card

    data = str(about.scores.get("data"))
    about = replace(
        about, scores=about.scores | {"data": "local" if data[:6] == "local:" else data}
    )
    write_huggingface(folder, about, model, tokenizer)
    if source is not None and (source / ABOUT).is_file():
        described, tensors = read_described(source, TENSORS, ABOUT)
        described["scores"] = about.scores
        write_described(folder, TENSORS, tensors, {}, ABOUT, described)
    (folder / CARD).write_text(str(model_card(about, model, source, repo_id)), encoding="utf-8")
