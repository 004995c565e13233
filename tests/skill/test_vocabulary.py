"""A cut vocabulary: texts of the tokens that are left have the tokens and logits they had."""

import copy
import json
import random
from itertools import product
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from skip_exp.data.batches import collate, tokenize
from skip_exp.errors import SkipError
from skip_exp.models.readouts import MlmReadout, Seq2SeqReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.cut_tokenizer import cut_tokenizer
from skip_exp.skill.vocabulary import cut_vocabulary
from tests.helpers.tiny import tiny_model
from tests.helpers.tokenizers import CORPUS, KINDS, some_text, tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def ids(tokenizer: PreTrainedTokenizerBase, *texts: str) -> list[int]:
    return tokenizer(*texts)["input_ids"]  # type: ignore[no-any-return]


def plain(model: Any, **parts: Any) -> PreTrainedTokenizerFast:
    """A tokenizer with no more than that, whose unknown and padding tokens are as BERT's."""
    fast = Tokenizer(model)
    for name, part in parts.items():
        setattr(fast, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="[UNK]", pad_token="[PAD]")


# --- by hand --------------------------------------------------------------------------------------


def test_a_word_piece_that_is_not_used_goes_and_its_words_split_further() -> None:
    words = [*SPECIAL, "a", "##a", "##b", "ab", "##ba", "aba", "##"]
    whole = plain(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    smaller, kept = cut_tokenizer(whole, [["ab"]])
    left = ["[PAD]", "[UNK]", "a", "##a", "##b", "ab"]  # not [CLS]: here it is a word as any
    assert smaller.get_vocab() == {word: i for i, word in enumerate(left)}
    assert [words[i] for i in kept] == left
    assert whole.tokenize("aba") == ["aba"] and smaller.tokenize("aba") == ["ab", "##a"]
    assert whole.tokenize("aab") == ["a", "##a", "##b"] == smaller.tokenize("aab")
    assert len(whole) == 12


def test_bytes_and_all_that_a_token_is_joined_from_stay() -> None:
    letters = pre_tokenizers.ByteLevel.alphabet()
    merges = [("l", "o"), ("n", "g"), ("lo", "ng"), ("lon", "g"), ("lo", "n"), ("a", "b")]
    words = ["[PAD]", "[UNK]", *sorted(letters), "lo", "ng", "long", "lon", "ab"]
    vocab = {word: i for i, word in enumerate(words)}
    whole = plain(
        models.BPE(vocab, merges), pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    smaller, _ = cut_tokenizer(whole, [["long"]])
    assert whole.get_vocab().keys() - smaller.get_vocab().keys() == {"ab"}
    described = json.loads(smaller.backend_tokenizer.to_str())["model"]["merges"]
    assert described == [list(pair) for pair in merges[:-1]]  # "lon" is on another way to "long"
    assert smaller.tokenize("long") == ["long"] and smaller.tokenize("ab") == ["a", "b"]
    smaller, _ = cut_tokenizer(whole, [["lo"]])
    assert smaller.tokenize("long") == ["lo", "n", "g"]
    assert smaller.tokenize("☃") == whole.tokenize("☃")  # bytes


def test_an_unknown_character_costs_what_it_cost() -> None:
    """By the lowest score of all, which no text uses: without it "☃a" + "b" (-29) would lose."""
    scored = [("[PAD]", 0.0), ("[UNK]", 0.0), ("☃a", -14.0), ("b", -15.0), ("ab", -1.0)]
    whole = plain(models.Unigram([*scored, ("zz", -100.0), ("yy", -50.0)], 1))
    smaller, kept = cut_tokenizer(whole, [["☃ab"], ["ab"]])
    assert kept == [0, 1, 2, 3, 4, 5]
    assert smaller.tokenize("☃ab") == ["☃a", "b"]
    assert json.loads(smaller.backend_tokenizer.to_str())["model"]["vocab"][5] == ["zz", -100.0]


@pytest.mark.parametrize(
    "processor",
    [
        processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 9), ("[SEP]", 10)]
        ),
        processors.BertProcessing(("[SEP]", 10), ("[CLS]", 9)),
        processors.RobertaProcessing(("[SEP]", 10), ("[CLS]", 9)),
        processors.Sequence([processors.BertProcessing(("[SEP]", 10), ("[CLS]", 9))]),
    ],
    ids=lambda processor: type(processor).__name__,
)
def test_whatever_names_an_id_names_the_new_one(processor: Any) -> None:
    words = ["no", "yes", "very", "good", "bad", "film", "[UNK]", "dull", "[PAD]", "[CLS]", "[SEP]"]
    vocab = {word: i for i, word in enumerate(words)}
    fast = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    fast.pre_tokenizer, fast.post_processor = pre_tokenizers.WhitespaceSplit(), processor
    fast.enable_padding(pad_id=8, pad_token="[PAD]", length=6)
    ends = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    whole = PreTrainedTokenizerFast(
        tokenizer_object=fast, unk_token="[UNK]", pad_token="[PAD]", **ends
    )
    whole.add_tokens([AddedToken("<movie>")])  # beside the model's vocabulary, at its end
    smaller, kept = cut_tokenizer(whole, [["bad film"]])
    assert kept == [4, 5, 6, 8, 9, 10, 11]
    described = json.loads(smaller.backend_tokenizer.to_str())
    assert described["padding"]["pad_id"] == 3
    assert {token["content"]: token["id"] for token in described["added_tokens"]} == {
        "[UNK]": 2,
        "[PAD]": 3,
        "[CLS]": 4,
        "[SEP]": 5,
        "<movie>": 6,
    }
    assert ids(smaller, "bad film <movie> good") == [4, 0, 1, 6, 2, 5]
    assert (smaller.pad_token_id, smaller.unk_token_id, smaller.cls_token_id) == (3, 2, 4)


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_any_text_of_kept_tokens_is_the_same(kind: str, seed: int) -> None:
    """Those that were asked for, and all others that happen to be made of what is left."""
    rng, whole = random.Random(seed), tokenizer(kind)
    asked = [[some_text(rng) for _ in range(rng.choice((1, 2)))] for _ in range(8)]
    smaller, kept = cut_tokenizer(whole, asked)
    assert type(smaller) is type(whole) and len(smaller) == len(kept) < len(whole)
    inside = 0
    for texts in [*asked, *([some_text(rng)] for _ in range(300))]:
        before = ids(whole, *texts)
        if set(before) <= set(kept):
            inside += 1
            assert [kept.index(i) for i in before] == ids(smaller, *texts), texts
    assert len(asked) < inside < 300


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_of_known_characters_becomes_unknown(kind: str) -> None:
    rng, whole = random.Random(0), tokenizer(kind)
    smaller, _ = cut_tokenizer(whole, [[CORPUS[0]]])
    for text in (some_text(rng) for _ in range(300)):
        assert whole.unk_token_id not in ids(whole, text)
        assert smaller.unk_token_id not in ids(smaller, text)
        joined = "".join(smaller.tokenize(text)).replace("##", "")
        assert joined == "".join(whole.tokenize(text)).replace("##", "")


def made(kind: str, readout: str) -> tuple[SoftPromptModel, PreTrainedTokenizerBase]:
    words = tokenizer(kind)
    model = tiny_model(KINDS[kind], "input", readout, vocab=len(words))
    if readout == "seq2seq":
        model.readout = Seq2SeqReadout([[7], [9], [40]], start_id=0)
    return model, words


def logits(
    model: SoftPromptModel, tokenizer: PreTrainedTokenizerBase, texts: list[list[str]]
) -> torch.Tensor:
    rows, _ = tokenize(tokenizer, texts, 40)
    with torch.no_grad():
        return model(**collate(rows, tokenizer.pad_token_id))


@pytest.mark.parametrize(
    ("kind", "readout"),
    [
        *product(("WordPiece", "BPE", "BPE with spaces"), ("head", "mlm")),
        ("Unigram", "seq2seq"),
    ],
)
def test_its_logits_are_the_same(kind: str, readout: str) -> None:
    """RoBERTa's positions count from the padding id; T5's logits move by one number a text."""
    model, whole = made(kind, readout)
    before = copy.deepcopy(model.state_dict())
    rng = random.Random(1)
    texts = [[some_text(rng)] for _ in range(12)]
    expected = logits(model, whole, texts)
    smaller, words, kept = cut_vocabulary(model, whole, texts)
    found = logits(smaller, words, texts)
    if readout == "seq2seq":
        found, expected = found.log_softmax(-1), expected.log_softmax(-1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    rows = {name: len(p) for name, p in smaller.named_parameters() if "shared" in name}
    tables = ("word_embeddings", "tok_embeddings")
    rows |= {
        name: len(p) for name, p in smaller.named_parameters() if name.split(".")[-2] in tables
    }
    assert set(rows.values()) == {len(kept)} and len(kept) < len(whole)
    assert smaller.backbone.config.vocab_size == len(kept)
    gone = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in smaller.parameters())
    bias = kind != "Unigram"  # of a language model's head; tied weights are cut once
    assert gone == (len(whole) - len(kept)) * (24 + bias)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_padding_start_and_label_words_have_their_new_ids() -> None:
    model, whole = made("Unigram", "seq2seq")
    model.backbone.config.eos_token_id = 40
    smaller, words, kept = cut_vocabulary(model, whole, [["a ball"]])
    assert kept[smaller.backbone.config.eos_token_id] == 40 != kept.index(40)
    assert model.backbone.config.eos_token_id == 40
    assert [kept[i] for i in smaller.readout.targets.flatten()] == [7, 9, 40]
    config = smaller.backbone.config
    assert (config.pad_token_id, config.decoder_start_token_id) == (words.pad_token_id, 0)
    assert smaller.backbone.shared.num_embeddings == smaller.backbone.lm_head.out_features
    model, whole = made("BPE", "mlm")
    smaller, words, kept = cut_vocabulary(model, whole, [["a ball"]])
    assert smaller.backbone.config.pad_token_id == words.pad_token_id == 1
    assert kept[smaller.readout.mask_id] == 4 and smaller.readout.word_ids.tolist() == [5, 6, 7]
    assert isinstance(model.readout, MlmReadout) and model.readout.word_ids.tolist() == [5, 6, 7]


# --- refusals -------------------------------------------------------------------------------------


def test_other_tokenizers_are_named() -> None:
    vocab = {word: i for i, word in enumerate([*SPECIAL, "a", "b", "ab"])}
    for whole, named in (
        (plain(models.WordLevel(vocab, "[UNK]")), "WordLevel"),
        (plain(models.BPE(vocab, [("a", "b")], unk_token="[UNK]")), "BPE"),
    ):
        with pytest.raises(SkipError, match=rf"^cannot be cut: .*{named}.*$"):
            cut_tokenizer(whole, [["ab"]])


def test_a_text_that_would_get_other_tokens_is_refused() -> None:
    """Here ``abx`` is unknown, since "ab" is tried before "a"; without "ab" it would be known."""
    words = ["[PAD]", "[UNK]", "a", "ab", "##bx", "bx"]
    whole = plain(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    assert ids(whole, "abx") == [1]
    assert cut_tokenizer(whole, [["abx"], ["ab"]])[1] == [0, 1, 2, 3]
    assert cut_tokenizer(whole, [["abx"], ["a"]])[1] == [0, 1, 2]
    with pytest.raises(SkipError, match="text 1 would get other tokens"):
        cut_tokenizer(whole, [["abx"]], needed=[4])


def test_what_a_model_cannot_spare_is_refused() -> None:
    """A tokenizer of another model, label words of several tokens."""
    model, whole = made("WordPiece", "head")
    whole.add_tokens(["<movie>"])
    with pytest.raises(SkipError, match="151"):
        cut_vocabulary(model, whole, [["a ball"]])
    model, whole = made("Unigram", "seq2seq")
    model.readout = Seq2SeqReadout([[7], [8, 9]], start_id=0)
    with pytest.raises(SkipError, match="several tokens"):
        cut_vocabulary(model, whole, [["a ball"]])
