"""Label words as token ids."""

from typing import Any

from skip_exp.errors import ConfigError


def word_pieces(tokenizer: Any, words: tuple[str, ...], labels: int) -> list[list[int]]:
    """Token ids of each label word; raises ConfigError where there is not one for each label."""
    if len(words) != labels:
        raise ConfigError("task.words", list(words), f"needs one label word for each of {labels}")
    return [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
