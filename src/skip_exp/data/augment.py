"""Copies of texts with some words replaced by near ones: more texts for a teacher to label.

As in TinyBERT's augmentation (Jiao et al. 2020), but without a model in the loop: near words are
neighbours in the backbone's own embedding table. A copy has as many tokens as its text.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from skip_exp.data.batches import Row, without_label

RATE = 0.25  # probability that a word is replaced
NEAR = 15  # neighbours that it may be replaced by
STARTS = ("Ġ", "▁")  # first character of a token that starts a word; without one: "##" continues
_WORDS_AT_ONCE = 1024  # words whose neighbours are searched at once: up to 200 MB of similarities


def word_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Which ids [V] start a word of letters, and which continue a word with a letter or digit.

    Knows WordPiece (BERT), byte-level BPE (RoBERTa, ModernBERT) and SentencePiece (T5).
    """
    ids = list(range(max(tokenizer.get_vocab().values()) + 1))  # some vocabularies have gaps
    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(ids)]
    special = set(tokenizer.all_special_tokens)
    # The kind of tokenizer shows in its vocabulary: many tokens have the mark, or WordPiece none.
    mark = ""
    for start in STARTS:
        if sum(token.startswith(start) for token in tokens) > len(tokens) / 4:
            mark = start
            break
    starts = np.zeros(len(tokens), bool)
    inside = np.zeros(len(tokens), bool)
    for i, token in enumerate(tokens):
        if token in special:
            continue
        starts_word = token.startswith(mark) if mark else not token.startswith("##")
        if starts_word:
            starts[i] = token.removeprefix(mark).isalpha()
            continue
        # Byte-level BPE writes "Ã©" for an accent, which it may split: "\ufffd" is half of one.
        text = tokenizer.convert_tokens_to_string([token]) if mark else token.removeprefix("##")
        inside[i] = text[:1].isalnum() or text.startswith("\ufffd")
    return starts, inside


def near_words(embedding: Tensor, words: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The ``NEAR`` words [len(ids), NEAR] with the most similar embeddings (cosine) to ``ids``.

    Args:
        embedding: word embeddings [V', H]; a token without a row is no neighbour.
        words: which ids [V] are words.
        ids: words [n] to find neighbours of.
    """
    table = torch.from_numpy(np.flatnonzero(words[: len(embedding)]))
    unit = F.normalize(embedding.detach().float()[table], dim=1)
    rows = torch.from_numpy(np.searchsorted(table.numpy(), ids))
    neighbours = []
    for part in rows.split(_WORDS_AT_ONCE):
        similar = unit[part] @ unit.T
        similar[torch.arange(len(part)), part] = -torch.inf  # a word is no neighbour of itself
        neighbours.append(table[similar.topk(min(NEAR, len(table) - 1), dim=1).indices])
    return torch.cat(neighbours).numpy()


def whole_words(ids: np.ndarray, starts: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Places in token ``ids`` [T] of words that are one token: what follows does not continue."""
    continued = np.append(inside[ids[1:]], False)
    return np.flatnonzero(starts[ids] & ~continued)


def copies_of(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    embedding: Tensor,
    copies: int,
    seed: int,
) -> list[Row]:
    """``copies`` versions of all ``rows``: first one of every row, then the next of every row.

    They have no label: a replaced word may change it.

    Args:
        embedding: word embeddings [V, H] of the backbone.
    """
    starts, inside = word_tokens(tokenizer)
    texts = []
    positions = []
    words = []
    for row in rows:
        ids = np.asarray(row["input_ids"])
        at = whole_words(ids, starts, inside)
        texts.append(ids)
        positions.append(at)
        words.append(ids[at])
    # Neighbours are searched once for each word that occurs, not once for each copy.
    seen = np.unique(np.concatenate(words))
    near = near_words(embedding, starts, seen)
    rng = np.random.default_rng(seed)
    versions = []
    for _ in range(copies):
        for row, ids, at in zip(rows, texts, positions, strict=True):
            replaced = at[rng.random(len(at)) < RATE]
            choice = rng.integers(near.shape[1], size=len(replaced))
            new = ids.copy()
            new[replaced] = near[np.searchsorted(seen, ids[replaced]), choice]
            versions.append(without_label(row) | {"input_ids": new.tolist()})
    return versions
