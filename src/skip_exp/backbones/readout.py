"""The readout of a task: its label words as tokens, and what a backbone must have for it."""

from typing import Any

from skip_exp.backbones.load import Backbone
from skip_exp.data.batches import tokenize_fast
from skip_exp.errors import ConfigError
from skip_exp.models.readouts import READOUT_CLASSES, Readout


def build_readout(
    backbone: Backbone, labels: int, words: tuple[str, ...], pooling: str = "mean"
) -> Readout:
    """Build the readout of ``backbone`` for ``labels`` classes named by ``words``.

    Raises:
        ConfigError: unsuitable words, or a checkpoint of another number of classes.
    """
    kind, tokenizer = READOUT_CLASSES[backbone.readout], backbone.tokenizer
    ids = word_pieces(tokenizer, words, labels) if kind.reads_words else []
    long = [word for word, own in zip(words, ids, strict=False) if len(own) > 1]
    if backbone.readout == "mlm" and long:
        raise ConfigError("task.words", long[0], "the mlm readout needs words of one piece")
    if backbone.readout == "classifier":
        found = backbone.family.head(backbone.model)[1].out_features
        if found != labels:
            why = f"the checkpoint has {found} classes, the task {labels}"
            raise ConfigError("backbone.readout", "classifier", why)
    about = {"words": ids, "mask_id": tokenizer.mask_token_id, "pooling": pooling}
    return kind.build(backbone.model, backbone.family, labels, **about)


def word_pieces(tokenizer: Any, words: tuple[str, ...], labels: int) -> list[list[int]]:
    """Tokenize the label words, one list of ids for each of ``labels`` classes.

    Raises:
        ConfigError: the number of words differs from ``labels``, a word is unknown to the
            tokenizer, or a word starts with all tokens of another. The other would always be at
            least as likely.
    """
    if len(words) != labels:
        raise ConfigError("task.words", list(words), f"needs one label word for each of {labels}")
    ids = [tokenize_fast(tokenizer, word, add_special_tokens=False)["input_ids"] for word in words]
    for word, own in zip(words, ids, strict=True):
        if not own or tokenizer.unk_token_id in own:
            raise ConfigError("task.words", word, "the tokenizer does not know it")
    first: dict[tuple[int, ...], int] = {}  # the first word with these tokens
    for i, own in enumerate(ids):
        first.setdefault(tuple(own), i)
    for i, own in enumerate(ids):
        for length in range(1, len(own) + 1):
            other = first.get(tuple(own[:length]), i)
            if other != i:
                why = f"begins with all tokens of {words[other]!r}: it could never be the answer"
                raise ConfigError("task.words", words[i], why)
    return ids
