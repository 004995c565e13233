"""Label words as token ids."""

from typing import Any

from skip_exp.errors import ConfigError


def word_pieces(tokenizer: Any, words: tuple[str, ...], labels: int) -> list[list[int]]:
    """Token ids of each label word.

    Raises:
        ConfigError: there is not one for each label, or they cannot be told apart: of equal tokens
            the second class would never be the answer.
    """
    if len(words) != labels:
        raise ConfigError("task.words", list(words), f"needs one label word for each of {labels}")
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    for i, (word, own) in enumerate(zip(words, ids, strict=True)):
        if not own or tokenizer.unk_token_id in own:
            raise ConfigError("task.words", word, "the tokenizer does not know it")
        if own in ids[:i]:
            other = words[ids.index(own)]
            raise ConfigError("task.words", word, f"has the same tokens as {other!r}")
    return ids
