"""Label words that no answer could tell apart are refused."""

from typing import Any

import pytest

from skip_exp.errors import ConfigError
from skip_exp.models.readouts import word_pieces
from tests.helpers.tokenizers import tokenizer


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer("WordPiece")


def test_each_word_has_its_tokens(words: Any) -> None:
    assert word_pieces(words, ("a", "ball"), 2) == [
        words.convert_tokens_to_ids(words.tokenize(word)) for word in ("a", "ball")
    ]


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (("a", "ball", "A"), "task.words=A: "),
        (("a ball", "a"), "task.words=a ball: "),
        (("a", "☃"), "task.words=☃: "),
        (("a", " "), "task.words= : "),
        (("a",), "task.words=['a']: "),
    ],
)
def test_words_of_equal_or_of_no_tokens(words: Any, given: tuple[str, ...], refused: str) -> None:
    with pytest.raises(ConfigError) as error:
        word_pieces(words, given, max(2, len(given)))
    assert str(error.value).startswith(refused)
