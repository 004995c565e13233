"""Label words as token ids."""

from itertools import permutations
from typing import Any

from skip_exp.errors import ConfigError


def word_pieces(tokenizer: Any, words: tuple[str, ...], labels: int) -> list[list[int]]:
    """Token ids of each label word.

    Raises:
        ConfigError: there is not one for each label, or one that could never be the answer: its
            tokens begin with all those of another, which is at least as likely.
    """
    if len(words) != labels:
        raise ConfigError("task.words", list(words), f"needs one label word for each of {labels}")
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    for word, own in zip(words, ids, strict=True):
        if not own or tokenizer.unk_token_id in own:
            raise ConfigError("task.words", word, "the tokenizer does not know it")
    for (a, first), (b, second) in permutations(zip(words, ids, strict=True), 2):
        if second[: len(first)] == first:
            why = f"begins with all tokens of {a!r}, so that it would never be the answer"
            raise ConfigError("task.words", b, why)
    return ids
