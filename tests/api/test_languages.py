"""A backbone of many languages: XLM-R's layers with a SentencePiece (Unigram) tokenizer."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

import skip_exp
from tests.helpers.tiny import tiny_backbone

SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
TEXTS = ["der Film war gut", "le film était mauvais", "映画は良かった", "영화는 나빴다"]
OVERRIDES = [
    *("backbone.name=xlmr", "backbone.family=xlm-roberta", "data.max_length=32"),
    *("benchmark.enabled=false", "benchmark.seq_len=32", "experiment=strong"),
    *("tune.epochs=1", "tune.min_steps=4", "retune.epochs=1", "retune.min_steps=4"),
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xlmr")
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [*SPECIAL.values()]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    named = {f"{name}_token": token for name, token in SPECIAL.items()}
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=40, **named)
    saved.save_pretrained(folder)
    tiny_backbone("xlm-roberta", vocab=len(saved)).save_pretrained(folder)
    return folder


def test_a_job_and_its_export(backbone: Path, tmp_path: Path) -> None:
    texts = [f"{text} {i}" for i in range(20) for text in TEXTS]
    rows = [{"text": x, "label": y} for x, y in zip(texts, ["good", "bad"] * 40, strict=True)]
    overrides = [*OVERRIDES, f"backbone.path={backbone}"]
    small = skip_exp.fit(rows, ratio=0.5, output=tmp_path / "out", overrides=overrides)
    assert small.result["params"]["block_pruned"] > 0.4
    small.export(tmp_path / "hf")
    exported = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "hf", trust_remote_code=True
    )
    tokens = AutoTokenizer.from_pretrained(tmp_path / "hf")(
        TEXTS, return_tensors="pt", padding=True
    )
    with torch.inference_mode():
        found = exported(**tokens).logits.softmax(-1)
    for row, answer in zip(found.tolist(), small.predict(TEXTS), strict=True):
        assert row == pytest.approx([*answer["probabilities"].values()], abs=1e-4)
