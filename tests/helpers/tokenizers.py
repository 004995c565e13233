"""Small tokenizers of the kinds that can be cut, in the classes of their families."""

import json
import random

from tokenizers import (
    AddedToken,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Tokenizer,
)

CORPUS = [
    "the film was charming and the plot was not dull at all",
    "charmingly filmed, plotted and acted; a charm",
    "dullness, illness and unlawful acts fill the filmmaker's wallet",
    "nothing in the plotting was warm: warmer than warmth, but never warmest",
    "it is 1999 and nobody walks, talks or balks at the ball",
]
LETTERS = sorted({c for text in CORPUS for c in text if c.isalnum()})
QUIET = {"show_progress": False}
KINDS = {  # and whose it is
    "WordPiece": "bert",
    "BPE": "roberta",
    "BPE with spaces": "modernbert",
    "Unigram": "t5",
}


def tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """Trained on CORPUS."""
    makers = {"bert": _bert, "roberta": _roberta, "modernbert": modernbert, "t5": _t5}
    return makers[KINDS[kind]]()


def some_text(rng: random.Random) -> str:
    """A text of the corpus's words and of others of the same letters, some of them run together."""
    words = [rng.choice(rng.choice(CORPUS).split()) for _ in range(rng.randint(1, 6))]
    words += ["".join(rng.choices(LETTERS, k=rng.randint(1, 8))) for _ in range(rng.randint(0, 2))]
    rng.shuffle(words)
    return "".join(word + rng.choice(("", " ", " ")) for word in words)


def _bert() -> BertTokenizer:
    fast = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    first = special + LETTERS + [f"##{letter}" for letter in LETTERS]
    _train(fast, trainers.WordPieceTrainer(vocab_size=160, special_tokens=first, **QUIET))
    return BertTokenizer(vocab=fast.get_vocab())


def _roberta() -> RobertaTokenizer:
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special, alphabet = ["<s>", "<pad>", "</s>", "<unk>"], pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": special, "initial_alphabet": alphabet}
    _train(fast, trainers.BpeTrainer(vocab_size=360, **options, **QUIET))
    vocab = fast.get_vocab() | {"<mask>": fast.get_vocab_size()}  # the last, as in RoBERTa's own
    merges = json.loads(fast.to_str())["model"]["merges"]
    return RobertaTokenizer(vocab=vocab, merges=[tuple(pair) for pair in merges])


def modernbert(corpus: list[str] = CORPUS, size: int = 360) -> PreTrainedTokenizerFast:
    """As published: runs of spaces are added tokens, the special ones come last."""
    fast = Tokenizer(models.BPE())
    fast.normalizer = normalizers.NFC()
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    options = {"special_tokens": ["|||IP_ADDRESS|||", "<|padding|>"]}
    options |= {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    fast.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, **options, **QUIET))
    fast.add_tokens([AddedToken(" " * n, normalized=True) for n in range(4, 1, -1)])
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    fast.add_special_tokens(special)
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, fast.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = [f"{token[1:-1].lower()}_token" for token in special]
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        model_input_names=["input_ids", "attention_mask"],
        **dict(zip(names, special, strict=True)),
    )


def _t5() -> T5Tokenizer:
    fast = Tokenizer(models.Unigram())
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    options = {"special_tokens": special, "unk_token": "<unk>"}
    _train(fast, trainers.UnigramTrainer(vocab_size=120, **options, **QUIET))
    pieces = json.loads(fast.to_str())["model"]["vocab"]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in (1, 0)]  # the last, as in T5's own
    return T5Tokenizer(vocab=[tuple(piece) for piece in pieces], extra_ids=2)


def _train(fast: Tokenizer, trainer: trainers.Trainer) -> None:
    fast.train_from_iterator(CORPUS * 3, trainer)
