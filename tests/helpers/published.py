"""Tiny models and tables under the ids, and in the layout, in which the hub has the real ones."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet
import safetensors.torch
import torch
import transformers
import yaml
from datasets import ClassLabel, Features, Value
from tokenizers import ByteLevelBPETokenizer

from skip_exp.config.schema import conf_dir
from tests.helpers.tokenizers import modernbert as modernbert_tokenizer

TRAIN, OTHER = 40, 12  # rows of a train split; of any other
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE |= {"intermediate_size": 64, "max_position_embeddings": 512}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}


@dataclass(frozen=True)
class Table:
    """A data set, or one of its configurations, as its card describes it.

    ``labelled`` tells of splits beside those named train and validation whether labels are
    published: else every label is -1.
    """

    repo: str
    columns: str
    labels: str
    config: str | None = None
    index: bool = True
    splits: dict[str, bool] = field(
        default_factory=lambda: {"train": True, "validation": True, "test": False}
    )

    @property
    def features(self) -> Features:
        """In the order of the columns; ``int:`` marks numbers."""
        kinds: dict[str, Any] = {
            name.removeprefix("int:"): Value("int32" if name.startswith("int:") else "string")
            for name in self.columns.split()
        }
        kinds["label"] = ClassLabel(names=self.labels.split("|"))
        return Features(kinds | ({"idx": Value("int32")} if self.index else {}))


def glue(config: str, columns: str, labels: str, **splits: bool) -> Table:
    return Table("nyu-mll/glue", columns, labels, config, **({"splits": splits} if splits else {}))  # type: ignore[arg-type]


def super_glue(config: str, columns: str, labels: str) -> Table:
    return Table("aps/super_glue", columns, labels, config)


PAIR = "sentence1 sentence2"
# On the real hub in another order, which names make up for.
BANKING77 = yaml.safe_load((conf_dir() / "task/banking77.yaml").read_text())["labels"]
TABLES = {
    "cola": glue("cola", "sentence", "unacceptable|acceptable"),
    "sst2": glue("sst2", "sentence", "negative|positive"),
    "mrpc": glue("mrpc", PAIR, "not_equivalent|equivalent", train=True, validation=True, test=True),
    "qqp": glue("qqp", "question1 question2", "not_duplicate|duplicate"),
    "mnli": glue(
        "mnli",
        "premise hypothesis",
        "entailment|neutral|contradiction",
        train=True,
        validation_matched=True,
        validation_mismatched=True,
        test_matched=False,
        test_mismatched=False,
    ),
    "qnli": glue("qnli", "question sentence", "entailment|not_entailment"),
    "rte": glue("rte", PAIR, "entailment|not_entailment"),
    "wnli": glue("wnli", PAIR, "not_entailment|entailment"),
    "boolq": super_glue("boolq", "question passage", "False|True"),
    "cb": super_glue("cb", "premise hypothesis", "entailment|contradiction|neutral"),
    "wic": super_glue("wic", f"word {PAIR} int:start1 int:start2 int:end1 int:end2", "False|True"),
    "imdb": Table(
        *("stanfordnlp/imdb", "text", "neg|pos"),
        config="plain_text",
        index=False,
        splits={"train": True, "test": True, "unsupervised": False},
    ),
    "banking77": Table(
        *("legacy-datasets/banking77", "text", "|".join(BANKING77)),
        index=False,
        splits={"train": True, "test": True},
    ),
    "ag_news": Table(
        *("fancyzhx/ag_news", "text", "World|Sports|Business|Sci/Tech"),
        index=False,
        splits={"train": True, "test": True},
    ),
}


def rows(table: Table, split: str) -> list[dict[str, Any]]:
    """Invented; ``<column> <split> <number>: a <label> one`` in every text column."""
    labels = table.labels.split("|")
    found = []
    for i in range(TRAIN if split == "train" else OTHER):
        row: dict[str, Any] = {}
        for name, kind in table.features.items():
            number = getattr(kind, "dtype", "") == "int32"
            row[name] = i if number else f"{name} {split} {i}: a {labels[i % len(labels)]} one"
        row["label"] = i % len(labels) if table.splits[split] else -1
        found.append(row)
    return found


def publish_tables(root: Path) -> None:
    """Every table as Parquet, one folder a configuration; the card names them."""
    cards: dict[str, Any] = {}
    for table in TABLES.values():
        folder = table.config or "data"
        about: dict[str, Any] = {"features": table.features._to_yaml_list(), "splits": []}
        files = []
        for split in table.splits:
            data = datasets.Dataset.from_list(rows(table, split), features=table.features)
            path = root / "datasets" / table.repo / folder / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pyarrow.parquet.write_table(data.data.table, path)
            size = {"num_bytes": path.stat().st_size, "num_examples": len(data)}
            about["splits"].append({"name": split} | size)
            files.append({"split": split, "path": f"{folder}/{split}-*"})
        card = cards.setdefault(table.repo, {"dataset_info": [], "configs": []})
        named = {"config_name": table.config or "default"}
        card["dataset_info"].append(named | about)
        card["configs"].append(named | {"data_files": files})
    for repo, card in cards.items():
        text = f"---\n{yaml.safe_dump(card)}---\n# {repo}\n"
        (root / "datasets" / repo / "README.md").write_text(text)


def texts() -> list[str]:
    return [
        str(value)
        for table in TABLES.values()
        for split in table.splits
        for row in rows(table, split)
        for value in row.values()
    ] + ["yes no maybe negative positive"]


def publish_models(root: Path) -> None:
    """One of each family; FLAN's gated FFN. A hub may hold them back from who asks."""
    torch.manual_seed(0)
    pieces = sorted({piece for text in texts() for piece in text.lower().split()})
    letters = sorted({letter for text in texts() for letter in text.lower()} - {" "})
    _bert(root / "models/google-bert/bert-base-uncased", pieces, letters)
    _roberta(root / "models/FacebookAI/roberta-base")
    _modernbert(root / "models/answerdotai/ModernBERT-base", local_rope_theta=10000.0)
    _modernbert(root / "models/jhu-clsp/ettin-encoder-17m", local_rope_theta=160000.0)
    _t5(root / "models/google-t5/t5-base", pieces)
    flan = root / "models/google/flan-t5-base"
    _t5(flan, pieces, feed_forward_proj="gated-gelu")
    _untie(flan)


def _bert(folder: Path, pieces: list[str], letters: list[str]) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    words += [piece for piece in pieces if piece not in words]
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    config = transformers.BertConfig(vocab_size=len(words), **SIZE)
    _save(folder, transformers.BertForPreTraining(config), tokenizer)  # with a pooler and heads


def _roberta(folder: Path) -> None:
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(
        texts(), vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False
    )
    folder.mkdir(parents=True)
    bpe.save_model(str(folder))
    tokenizer = transformers.RobertaTokenizer.from_pretrained(folder)
    config = transformers.RobertaConfig(
        vocab_size=bpe.get_vocab_size(),
        **SIZE | {"max_position_embeddings": 514},
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
    )
    _save(folder, transformers.RobertaForMaskedLM(config), tokenizer)


def _modernbert(folder: Path, **more: Any) -> None:
    """Its configuration has the names of 2024: no list of layers, and two bases of rotations."""
    tokenizer = modernbert_tokenizer(texts(), 400)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls")}
    ids |= {"bos_token_id": ids["cls_token_id"], "sep_token_id": tokenizer.sep_token_id}
    settings = SIZE | ids | {"vocab_size": len(tokenizer) + 5, "eos_token_id": ids["sep_token_id"]}
    config = transformers.ModernBertConfig(**settings)
    _save(folder, transformers.ModernBertForMaskedLM(config), tokenizer)
    older = {"global_attn_every_n_layers": 3, "local_attention": 8, "global_rope_theta": 160000.0}
    older |= {"classifier_pooling": "mean", "layer_norm_eps": 1e-5, "norm_eps": 1e-5}
    older |= {"architectures": ["ModernBertForMaskedLM"], "model_type": "modernbert"}
    (folder / "config.json").write_text(json.dumps(settings | older | more))


def _t5(folder: Path, pieces: list[str], **more: Any) -> None:
    scored = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -5.0)]
    letters = sorted({letter for text in texts() for letter in text} - {" "})
    scored += [(f"▁{piece}", -2.0) for piece in pieces] + [(letter, -6.0) for letter in letters]
    tokenizer = transformers.T5Tokenizer(vocab=scored, extra_ids=10)
    config = transformers.T5Config(vocab_size=len(tokenizer), **T5 | more, decoder_start_token_id=0)
    _save(folder, transformers.T5ForConditionalGeneration(config), tokenizer)


def _untie(folder: Path) -> None:
    """As T5 v1.1 is published: an output matrix of its own, and no scale before it."""
    state = safetensors.torch.load_file(folder / "model.safetensors")
    state["lm_head.weight"] = torch.randn_like(state["shared.weight"])
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    del config["scale_decoder_outputs"]
    (folder / "config.json").write_text(json.dumps(config))


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("Random weights.\n")
