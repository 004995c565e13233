"""Label words that no answer could tell apart are refused."""

from typing import Any

import pytest

from skip_exp.errors import ConfigError
from skip_exp.models.readouts.base import word_pieces
from tests.helpers.tokenizers import tokenizer


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer("WordPiece")


def test_each_word_has_its_tokens(words: Any) -> None:
    assert word_pieces(words, ("a", "ball"), 2) == [
        words.convert_tokens_to_ids(words.tokenize(word)) for word in ("a", "ball")
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("a", "ball", "A"), "task.words=A: begins with all tokens of 'a', so that it would never"),
        (("a ball", "a"), "task.words=a ball: begins with all tokens of 'a', so that it would"),
        (("a", "☃"), "task.words=☃: the tokenizer does not know it"),
        (("a", " "), "task.words= : the tokenizer does not know it"),
        (("a",), r"task.words=\['a'\]: needs one label word for each of 2"),
    ],
)
def test_words_of_equal_or_of_no_tokens(words: Any, given: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        word_pieces(words, given, max(2, len(given)))
