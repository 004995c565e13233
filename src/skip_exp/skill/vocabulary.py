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
    about: SkillRecord, folder: Path | None, given: str | Path | Iterable[Example]
) -> tuple[list[list[str]], str]:
    """Texts whose tokens are kept, and their name: ``train``, that of a file, or ``texts``.

    Args:
        folder: of the skill, beside which a result names the source of the train rows.
        given: ``train``, a file, or examples.

    Raises:
        SkipError: they cannot be read, or one does not fit the task.
    """
    if not isinstance(given, str | Path):
        return [example_texts(about, each, n) for n, each in enumerate(given, 1)], "texts"
    if given == "train":
        try:
            rows = read_job_rows(about, folder)
        except SkipError as error:
            raise SkipError(f"--vocabulary train: {error}; or give a file of texts") from error
        return [row["texts"] for row in (*rows.train, *rows.select)], "train"
    file = Path(given)
    if is_table(file):
        return read_texts(file, about.text, DataConfig(drop_bad=True))[0], file.name
    examples, where = read_lines(file)
    try:
        return [example_texts(about, each, n) for n, each in enumerate(examples, 1)], file.name
    except ExampleError as error:
        raise SkipError(f"line {error.number} of {where}: {error.reason}") from error


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
    needed = {*_ids(model.backbone.config, rows).values(), *_readout_ids(model)}
    # Where positions count from the padding id, that id may not change.
    needed |= set(range(model.family.position_offset(model.backbone.config) - 1))
    smaller_tokenizer, kept = cut_tokenizer(tokenizer, texts, needed)
    if kept[-1] >= rows:
        raise SkipError(f"cannot be cut: the tokenizer has token {kept[-1]}, the model {rows} rows")
    new_ids = torch.full((rows,), -1)
    new_ids[kept] = torch.arange(len(kept))
    smaller = model.copy()
    _cut_rows(smaller.backbone, torch.tensor(kept), new_ids)
    configs = {id(m.config): m.config for m in smaller.backbone.modules() if hasattr(m, "config")}
    for config in configs.values():  # of the model and of its stacks
        for key, old in _ids(config, rows).items():
            setattr(config, key, int(new_ids[old]))
        config.vocab_size = len(kept)
    readout = smaller.readout
    if isinstance(readout, MlmReadout):
        readout.word_ids, readout.mask_id = new_ids[readout.word_ids], int(new_ids[readout.mask_id])
    elif isinstance(readout, Seq2SeqReadout):
        readout.targets, readout.start_id = new_ids[readout.targets], int(new_ids[readout.start_id])
    return smaller, smaller_tokenizer, kept


def _ids(config: Any, rows: int) -> dict[str, int]:
    """The token ids among a model's settings that have a row."""
    ids = {k: v for k, v in config.to_dict().items() if k.endswith("_token_id")}
    return {key: i for key, i in ids.items() if type(i) is int and 0 <= i < rows}


def _readout_ids(model: SoftPromptModel) -> list[int]:
    """The tokens that the readout reads or writes."""
    readout = model.readout
    if isinstance(readout, MlmReadout):
        return [readout.mask_id, *readout.word_ids.tolist()]
    if not isinstance(readout, Seq2SeqReadout):
        return []
    if readout.targets.shape[1] > 1:
        raise SkipError(
            "cannot be cut: label words of several tokens depend on the whole vocabulary"
        )
    return [readout.start_id, *readout.targets.flatten().tolist()]


def _cut_rows(backbone: HFModel, kept: Tensor, new_ids: Tensor) -> None:
    """Keep the rows ``kept`` of the embeddings and of a language model's head; ties remain."""
    parts = [backbone.get_input_embeddings(), backbone.get_output_embeddings()]
    of_words = {id(p) for part in parts if part is not None for p in part.parameters()}
    cut: dict[int, nn.Parameter] = {}
    for module in backbone.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in of_words:
                continue
            if id(parameter) not in cut:
                rows = parameter.detach()[kept]
                cut[id(parameter)] = nn.Parameter(rows, requires_grad=parameter.requires_grad)
            setattr(module, name, cut[id(parameter)])
            if isinstance(module, nn.Linear):
                module.out_features = len(kept)
            elif isinstance(module, nn.Embedding):
                module.num_embeddings = len(kept)
                if module.padding_idx is not None:
                    module.padding_idx = int(new_ids[module.padding_idx])
