"""Make a fast tokenizer smaller: texts of the tokens that are left keep their tokens.

Why texts keep their tokens, by the kind of the tokenizer's model:

* WordPiece takes the longest piece that fits, again and again: a piece that it took before is still
  there, and still the longest.
* Byte-level BPE joins the pair of the lowest rank, again and again: a pair that it joined before is
  still there, and still the lowest. All pairs that any of the tokens may be joined from stay.
* Unigram takes the path of the highest score: the path that it took before is still there, and has
  fewer rivals. An unknown character costs as much as before: the lowest score stays, too.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from skip_exp.errors import SkipError, first_line

Described = dict[str, Any]  # a tokenizer or a part of it, as `Tokenizer.to_str` describes it
Texts = Sequence[Sequence[str]]  # one text each, or a pair

_CHUNK = 1000  # texts that are encoded together


def cut_tokenizer(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, needed: Iterable[int] = ()
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """A tokenizer of the tokens that ``texts`` use, and the ids [kept] that these had before.

    A token's new id is the place of its old one among them. All special and added tokens stay, and
    all single characters (or bytes), so that no word of known characters becomes unknown.

    Args:
        tokenizer: is left as it is.
        needed: further ids that stay.

    Raises:
        SkipError: a tokenizer that cannot be cut, named; a text that would get other tokens.
    """
    if not tokenizer.is_fast:
        raise SkipError(f"cannot be cut: {type(tokenizer).__name__} is no fast tokenizer")
    whole = _without_limits(tokenizer)
    described: Described = json.loads(whole.to_str())
    used = {*needed, *tokenizer.all_special_ids}
    used |= {token["id"] for token in described["added_tokens"]}
    used |= {i for ids in _encoded(whole, texts) for i in ids}
    kept = sorted(_kept(described, used))
    new_ids = {old: new for new, old in enumerate(kept)}
    smaller = _rebuilt(tokenizer, _renumbered(json.loads(_full(tokenizer)), new_ids))
    _check(whole, _without_limits(smaller), new_ids, texts)
    return smaller, kept


def _full(tokenizer: PreTrainedTokenizerBase) -> str:
    described: str = tokenizer.backend_tokenizer.to_str()
    return described


def _without_limits(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy that neither truncates nor pads."""
    copied: Tokenizer = Tokenizer.from_str(_full(tokenizer))
    copied.no_truncation()
    copied.no_padding()
    return copied


def _encoded(tokenizer: Tokenizer, texts: Texts) -> Iterator[list[int]]:
    """Token ids of every text or pair, special tokens included."""
    inputs = (tuple(row) if len(row) == 2 else row[0] for row in texts)
    while chunk := list(islice(inputs, _CHUNK)):
        yield from (encoding.ids for encoding in tokenizer.encode_batch(chunk))


# --- what stays -----------------------------------------------------------------------------------


def _kept(described: Described, used: set[int]) -> set[int]:
    """The ids that stay: ``used``, single characters, and whatever they are made from."""
    model = described["model"]
    if model["type"] not in _MODELS:
        known = ", ".join(_MODELS)
        raise SkipError(f"cannot be cut: a tokenizer of the kind {model['type']}, not {known}")
    if model["type"] == "BPE" and not _is_byte_level(described):
        raise SkipError("cannot be cut: a BPE tokenizer that is not byte-level")
    keep, _ = _MODELS[model["type"]]
    return used | keep(model, used)


def _word_pieces(model: Described, used: set[int]) -> set[int]:
    prefix = model["continuing_subword_prefix"]
    return {
        i
        for piece, i in model["vocab"].items()
        if len(piece.removeprefix(prefix)) == 1 or piece == model["unk_token"]
    }


def _is_byte_level(described: Described) -> bool:
    model, before = described["model"], [described["normalizer"], described["pre_tokenizer"]]
    affixes = model["continuing_subword_prefix"] or model["end_of_word_suffix"]
    return (
        '"type": "ByteLevel"' in json.dumps(before)  # on its own, or in a sequence
        and model["vocab"].keys() >= set(ByteLevel.alphabet())
        and not affixes
    )


def _bytes_and_halves(model: Described, used: set[int]) -> set[int]:
    """All bytes; of every token, all that a merge on some way to it joins."""
    vocab: dict[str, int] = model["vocab"]
    halves: dict[str, list[str]] = defaultdict(list)
    for left, right in model["merges"]:
        halves[left + right] += [left, right]
    names = {i: token for token, i in vocab.items()}
    reached = set(ByteLevel.alphabet())
    waiting = [names[i] for i in used if i in names]
    while waiting:
        if (token := waiting.pop()) not in reached:
            reached.add(token)
            waiting += halves[token]
    return {vocab[token] for token in reached}


def _unigram_pieces(model: Described, used: set[int]) -> set[int]:
    pieces = model["vocab"]
    lowest = min(range(len(pieces)), key=lambda i: pieces[i][1])  # unknown characters cost by it
    kept = {i for i, (piece, _) in enumerate(pieces) if len(piece) == 1} | {lowest}
    if model["unk_id"] is not None:
        kept.add(model["unk_id"])
    if model["byte_fallback"]:
        of_bytes = {f"<0x{byte:02X}>" for byte in range(256)}
        kept |= {i for i, (piece, _) in enumerate(pieces) if piece in of_bytes}
    return kept


# --- the smaller one ------------------------------------------------------------------------------


def _renumbered(described: Described, new_ids: Mapping[int, int]) -> Described:
    """The tokenizer with the tokens of ``new_ids`` {old: new} alone."""
    model = described["model"]
    _, cut = _MODELS[model["type"]]
    added = [token | {"id": new_ids[token["id"]]} for token in described["added_tokens"]]
    described = described | {
        "model": model | cut(model, new_ids),
        "added_tokens": added,
        "post_processor": _processor(described["post_processor"], new_ids),
    }
    if padding := described["padding"]:
        described["padding"] = padding | {"pad_id": new_ids[padding["pad_id"]]}
    return described


def _cut_vocab(model: Described, new_ids: Mapping[int, int]) -> Described:
    return {"vocab": {token: new_ids[i] for token, i in model["vocab"].items() if i in new_ids}}


def _cut_merges(model: Described, new_ids: Mapping[int, int]) -> Described:
    cut = _cut_vocab(model, new_ids)
    merges = [pair for pair in model["merges"] if {*pair, "".join(pair)} <= cut["vocab"].keys()]
    return cut | {"merges": merges}


def _cut_pieces(model: Described, new_ids: Mapping[int, int]) -> Described:
    pieces = [piece for i, piece in enumerate(model["vocab"]) if i in new_ids]
    unknown = model["unk_id"]
    return {"vocab": pieces, "unk_id": None if unknown is None else new_ids[unknown]}


_MODELS: dict[
    str,
    tuple[
        Callable[[Described, set[int]], set[int]],
        Callable[[Described, Mapping[int, int]], Described],
    ],
] = {
    "WordPiece": (_word_pieces, _cut_vocab),
    "BPE": (_bytes_and_halves, _cut_merges),
    "Unigram": (_unigram_pieces, _cut_pieces),
}


def _processor(processor: Described | None, new_ids: Mapping[int, int]) -> Described | None:
    """What adds special tokens, by their new ids."""
    match processor:
        case None | {"type": "ByteLevel"}:
            return processor
        case {"type": "Sequence", "processors": parts}:
            return processor | {"processors": [_processor(part, new_ids) for part in parts]}
        case {"type": "BertProcessing" | "RobertaProcessing"}:
            ends = {
                end: [token, new_ids[i]] for end in ("cls", "sep") for token, i in [processor[end]]
            }
            return processor | ends
        case {"type": "TemplateProcessing", "special_tokens": tokens}:
            renumbered = {
                name: token | {"ids": [new_ids[i] for i in token["ids"]]}
                for name, token in tokens.items()
            }
            return processor | {"special_tokens": renumbered}
    raise SkipError(f"cannot be cut: a tokenizer with the post-processor {processor['type']}")


def _rebuilt(tokenizer: PreTrainedTokenizerBase, described: Described) -> PreTrainedTokenizerBase:
    """As readers of an export get it: some classes build their own from what the file says."""
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
    """Raise SkipError unless tokens and texts have the ids that they had, by their new numbers."""
    ids = {token: new_ids[i] for token, i in whole.get_vocab().items() if i in new_ids}
    if smaller.get_vocab() != ids:
        raise SkipError("cannot be cut: the tokenizer class changes the ids of some tokens")
    both = zip(_encoded(whole, texts), _encoded(smaller, texts), strict=True)
    for number, (before, after) in enumerate(both, 1):
        if [new_ids[i] for i in before] != after:
            raise SkipError(f"cannot be cut: text {number} would get other tokens")
