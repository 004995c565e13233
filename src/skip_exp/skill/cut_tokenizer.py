"""Make a fast tokenizer smaller: texts of the remaining tokens keep their tokens.

The reason depends on the tokenizer's model:

* WordPiece repeatedly takes the longest piece that fits. The piece it took before is still there
  and still the longest.
* Byte-level BPE repeatedly merges the pair with the lowest rank. The pair it merged before is still
  there and still the lowest. All pairs from which a kept token can be merged stay.
* Unigram takes the path with the highest score. The path it took before is still there and has
  fewer rivals. The piece with the lowest score stays, because it sets the cost of an unknown
  character.

skeletoken 0.6 also removes tokens, but does not know which ones a kept token needs, and its T5
tokenizers get their sentinel tokens back, for which the cut model has no rows.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from skip_exp.errors import SkipError, first_line

Described = dict[str, Any]  # a tokenizer or a part of it, as `Tokenizer.to_str` describes it
Texts = Sequence[Sequence[str]]  # one text each, or a pair


def cut_tokenizer(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, needed: Iterable[int] = ()
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """A tokenizer with the tokens that ``texts`` use, and the old ids of its tokens.

    A token's new id is the index of its old id in that list. All special and added tokens stay.
    All single characters (or bytes) stay, so that no word of known characters becomes unknown.

    Args:
        tokenizer: not changed.
        needed: more ids to keep.

    Raises:
        SkipError: the tokenizer cannot be cut, or a text would get other tokens.
    """
    whole = _lift_limits(tokenizer)
    described: Described = json.loads(whole.to_str())
    used = set(needed) | set(tokenizer.all_special_ids)
    used |= {token["id"] for token in described["added_tokens"]}
    for ids in _encode(whole, texts):
        used.update(ids)
    old_ids = sorted(_choose_ids(described, used))
    new_ids = {old: new for new, old in enumerate(old_ids)}
    full: Described = json.loads(tokenizer.backend_tokenizer.to_str())  # truncates and pads
    smaller = _rebuild(tokenizer, _renumber(full, new_ids))
    _check(whole, _lift_limits(smaller), new_ids, texts)
    return smaller, old_ids


def _lift_limits(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy that neither truncates nor pads."""
    copied: Tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied


def _encode(tokenizer: Tokenizer, texts: Texts) -> Iterator[list[int]]:
    """Token ids of every text or pair, special tokens included."""
    for row in texts:
        yield tokenizer.encode(row[0], row[1] if len(row) == 2 else None).ids


# --- what stays -----------------------------------------------------------------------------------


def _choose_ids(described: Described, used: set[int]) -> set[int]:
    """The ids to keep: ``used``, single characters, and the parts of both."""
    model = described["model"]
    match model["type"]:
        case "WordPiece":
            return used | _find_characters(model)
        case "BPE" if _is_byte_level(described):
            return used | _find_halves(model, used)
        case "Unigram":
            return used | _find_pieces(model)
    raise SkipError(
        f"cannot be cut: a tokenizer of the kind {model['type']}, not WordPiece, Unigram or "
        "byte-level BPE"
    )


def _find_characters(model: Described) -> set[int]:
    """Of WordPiece: the single characters, and the token of unknown ones."""
    ids = set()
    for piece, i in model["vocab"].items():
        text = piece.removeprefix(model["continuing_subword_prefix"])
        if len(text) == 1 or piece == model["unk_token"]:
            ids.add(i)
    return ids


def _is_byte_level(described: Described) -> bool:
    model = described["model"]
    before = [described["normalizer"], described["pre_tokenizer"]]
    affixes = model["continuing_subword_prefix"] or model["end_of_word_suffix"]
    return (
        '"type": "ByteLevel"' in json.dumps(before)  # alone or in a sequence
        and model["vocab"].keys() >= set(ByteLevel.alphabet())
        and not affixes
    )


def _find_halves(model: Described, used: set[int]) -> set[int]:
    """Of BPE: all bytes, and the halves of every merge that can lead to a used token."""
    vocab: dict[str, int] = model["vocab"]
    halves: dict[str, list[str]] = defaultdict(list)
    for left, right in model["merges"]:
        halves[left + right] += [left, right]
    names = {i: token for token, i in vocab.items()}
    reached = set(ByteLevel.alphabet())
    waiting = [names[i] for i in used if i in names]
    while waiting:
        token = waiting.pop()
        if token not in reached:
            reached.add(token)
            waiting += halves[token]
    return {vocab[token] for token in reached}


def _find_pieces(model: Described) -> set[int]:
    """Of Unigram: the single characters, and what stands for unknown ones."""
    pieces = model["vocab"]
    lowest = min(range(len(pieces)), key=lambda i: pieces[i][1])  # the cost of the unknown
    ids = {lowest}
    if model["unk_id"] is not None:
        ids.add(model["unk_id"])
    byte_pieces = {f"<0x{byte:02X}>" for byte in range(256)}
    for i, (piece, _) in enumerate(pieces):
        if len(piece) == 1 or piece in byte_pieces:
            ids.add(i)
    return ids


# --- the smaller one ------------------------------------------------------------------------------


def _renumber(described: Described, new_ids: Mapping[int, int]) -> Described:
    """The tokenizer with only the tokens of ``new_ids`` {old: new}."""
    added = [token | {"id": new_ids[token["id"]]} for token in described["added_tokens"]]
    described = described | {
        "model": _cut_model(described["model"], new_ids),
        "added_tokens": added,
        "post_processor": _renumber_processor(described["post_processor"], new_ids),
    }
    if padding := described["padding"]:
        described["padding"] = padding | {"pad_id": new_ids[padding["pad_id"]]}
    return described


def _cut_model(model: Described, new_ids: Mapping[int, int]) -> Described:
    if model["type"] == "Unigram":
        pieces = [piece for i, piece in enumerate(model["vocab"]) if i in new_ids]
        return model | {"vocab": pieces, "unk_id": new_ids.get(model["unk_id"])}
    vocab = _renumber_vocab(model["vocab"], new_ids)
    if model["type"] == "WordPiece":
        return model | {"vocab": vocab}
    merges = [[a, b] for a, b in model["merges"] if {a, b, a + b} <= vocab.keys()]
    return model | {"vocab": vocab, "merges": merges}


def _renumber_vocab(vocab: Mapping[str, int], new_ids: Mapping[int, int]) -> dict[str, int]:
    return {token: new_ids[i] for token, i in vocab.items() if i in new_ids}


def _renumber_processor(
    processor: Described | None, new_ids: Mapping[int, int]
) -> Described | None:
    """The part that adds special tokens, with their new ids."""
    match processor:
        case None | {"type": "ByteLevel"}:
            return processor
        case {"type": "Sequence", "processors": parts}:
            renumbered = [_renumber_processor(part, new_ids) for part in parts]
            return processor | {"processors": renumbered}
        case {"type": "BertProcessing" | "RobertaProcessing"}:
            start, start_id = processor["cls"]
            end, end_id = processor["sep"]
            return processor | {"cls": [start, new_ids[start_id]], "sep": [end, new_ids[end_id]]}
        case {"type": "TemplateProcessing", "special_tokens": tokens}:
            by_name = {}
            for name, token in tokens.items():
                by_name[name] = token | {"ids": [new_ids[i] for i in token["ids"]]}
            return processor | {"special_tokens": by_name}
    raise SkipError(f"cannot be cut: a tokenizer with the post-processor {processor['type']}")


def _rebuild(tokenizer: PreTrainedTokenizerBase, described: Described) -> PreTrainedTokenizerBase:
    """The tokenizer as loaded from a file: some classes build their own from its content."""
    with TemporaryDirectory() as folder:
        try:
            tokenizer.save_pretrained(folder)
            Tokenizer.from_str(json.dumps(described)).save(f"{folder}/tokenizer.json")
            smaller = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # the library's are plain Exceptions
            raise SkipError(f"cannot be cut: its tokenizer: {first_line(error)}") from error
    smaller.name_or_path = tokenizer.name_or_path
    return smaller


def _check(whole: Tokenizer, smaller: Tokenizer, new_ids: Mapping[int, int], texts: Texts) -> None:
    """Raise SkipError unless tokens and texts have the same ids as before, renumbered."""
    if smaller.get_vocab() != _renumber_vocab(whole.get_vocab(), new_ids):
        raise SkipError("cannot be cut: the tokenizer class changes the ids of some tokens")
    pairs = zip(_encode(whole, texts), _encode(smaller, texts), strict=True)
    for number, (before, after) in enumerate(pairs, 1):
        if [new_ids[i] for i in before] != after:
            raise SkipError(f"cannot be cut: text {number} would get other tokens")
