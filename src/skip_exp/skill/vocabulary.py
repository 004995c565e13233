"""Cut a model's vocabulary to the tokens that given texts use, and its tokenizer with it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skip_exp.config.schema import DataConfig
from skip_exp.errors import ExampleError, SkipError
from skip_exp.models.family import HFModel
from skip_exp.models.readouts import MlmReadout, Seq2SeqReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.classifier import Example, example_texts
from skip_exp.skill.cut_tokenizer import Texts, cut_tokenizer
from skip_exp.skill.examples import is_table, read_lines, read_texts
from skip_exp.skill.files import read_job_rows
from skip_exp.skill.record import SkillRecord


def vocabulary_texts(
    about: SkillRecord, folder: Path | None, source: str | Path | Iterable[Example]
) -> tuple[list[list[str]], str]:
    """Texts whose tokens are kept, and their name: ``train``, that of a file, or ``texts``.

    Args:
        folder: of the skill, beside which a result names the source of the train rows.
        source: ``train``, a file, or examples.

    Raises:
        SkipError: they cannot be read, or one does not fit the task.
    """
    if not isinstance(source, str | Path):
        return _read_examples(about, source), "texts"
    if source == "train":
        try:
            rows = read_job_rows(about, folder)
        except SkipError as error:
            raise SkipError(f"--vocabulary train: {error}; or give a file of texts") from error
        return [row["texts"] for row in rows.train + rows.select], "train"
    file = Path(source)
    if is_table(file):
        return read_texts(file, about.text, DataConfig(drop_bad=True))[0], file.name
    examples, where = read_lines(file)
    try:
        return _read_examples(about, examples), file.name
    except ExampleError as error:
        raise SkipError(f"line {error.number} of {where}: {error.reason}") from error


def _read_examples(about: SkillRecord, examples: Iterable[Example]) -> list[list[str]]:
    return [example_texts(about, example, i) for i, example in enumerate(examples, 1)]


def cut_vocabulary(
    model: SoftPromptModel, tokenizer: PreTrainedTokenizerBase, texts: Texts
) -> tuple[SoftPromptModel, PreTrainedTokenizerBase, list[int]]:
    """Model and tokenizer with only the tokens that ``texts`` use, and their old ids [kept].

    Both are new and share the other weights. A text of these tokens keeps its probabilities. It
    also keeps its logits, except with the ``seq2seq`` readout: these are log-probabilities among
    fewer words, so all logits of a text move by one number.

    Args:
        texts: texts or pairs. :func:`cut_tokenizer` keeps more tokens than they use.

    Raises:
        SkipError: the readout or the tokenizer cannot be cut.
    """
    rows = len(model.backbone.get_input_embeddings().weight)
    needed = _find_readout_ids(model)
    needed.update(_find_token_ids(model.backbone.config, rows).values())
    # Where positions count from the padding id, that id may not change.
    needed.update(range(model.family.position_offset(model.backbone.config) - 1))
    smaller_tokenizer, old_ids = cut_tokenizer(tokenizer, texts, needed)
    if old_ids[-1] >= rows:
        raise SkipError(
            f"cannot be cut: the tokenizer has token {old_ids[-1]}, the model {rows} rows"
        )
    new_ids = torch.full((rows,), -1)
    new_ids[old_ids] = torch.arange(len(old_ids))
    smaller = model.copy()
    _cut_rows(smaller.backbone, torch.tensor(old_ids), new_ids)
    # A model and its stacks may share one configuration, whose ids are renumbered once.
    modules = smaller.backbone.modules()
    configs: dict[int, Any] = {id(m.config): m.config for m in modules if hasattr(m, "config")}
    for config in configs.values():
        for key, old_id in _find_token_ids(config, rows).items():
            setattr(config, key, int(new_ids[old_id]))
        config.vocab_size = len(old_ids)
    # The readout names its words by their ids.
    readout = smaller.readout
    if isinstance(readout, MlmReadout):
        readout.word_ids = new_ids[readout.word_ids]
        readout.mask_id = int(new_ids[readout.mask_id])
    elif isinstance(readout, Seq2SeqReadout):
        readout.targets = new_ids[readout.targets]
        readout.start_id = int(new_ids[readout.start_id])
    return smaller, smaller_tokenizer, old_ids


def _find_token_ids(config: Any, rows: int) -> dict[str, int]:
    """The token ids among a model's settings that have a row."""
    ids = {}
    for key, value in config.to_dict().items():
        if key.endswith("_token_id") and type(value) is int and 0 <= value < rows:
            ids[key] = value
    return ids


def _find_readout_ids(model: SoftPromptModel) -> set[int]:
    """The tokens that the readout reads or writes."""
    readout = model.readout
    if isinstance(readout, MlmReadout):
        return {readout.mask_id} | set(readout.word_ids.tolist())
    if not isinstance(readout, Seq2SeqReadout):
        return set()
    if readout.targets.shape[1] > 1:
        raise SkipError(
            "cannot be cut: label words of several tokens depend on the whole vocabulary"
        )
    return {readout.start_id} | set(readout.targets.flatten().tolist())


def _cut_rows(backbone: HFModel, old_ids: Tensor, new_ids: Tensor) -> None:
    """Keep rows ``old_ids`` of the embeddings and of a language model's head; ties remain."""
    embeddings: set[int] = set()
    for part in (backbone.get_input_embeddings(), backbone.get_output_embeddings()):
        if part is not None:
            embeddings.update(map(id, part.parameters()))
    cut: dict[int, nn.Parameter] = {}  # a weight that two modules share is cut once
    for module in backbone.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in embeddings:
                continue
            if id(parameter) not in cut:
                rows = parameter.detach()[old_ids]
                cut[id(parameter)] = nn.Parameter(rows, requires_grad=parameter.requires_grad)
            setattr(module, name, cut[id(parameter)])
            if isinstance(module, nn.Linear):
                module.out_features = len(old_ids)
            elif isinstance(module, nn.Embedding):
                module.num_embeddings = len(old_ids)
                if module.padding_idx is not None:
                    module.padding_idx = int(new_ids[module.padding_idx])
