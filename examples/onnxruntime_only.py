"""Answers of an ONNX export by onnxruntime, tokenizers and numpy alone: without skip_exp.

skip-exp export outputs/.../skill small-onnx --format onnx
python examples/onnxruntime_only.py small-onnx "a charming film" "a mess"

One answer a line, as JSON. A task of two texts takes them in turn: "one" "its other" "one" ... All
that is known of the model is read from the folder; its README.md tells the same in words.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Model:
    """An export at work; several threads may ask one at once.

    Attributes:
        labels: names of the classes, in the order of the logits (``id2label`` as a list).
        pair: whether the task takes two texts.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        how = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.labels: list[str] = about["labels"]
        self.pair = len(about["text"]) == 2
        self.threshold: float | None = about.get("threshold")  # only of several labels per text
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Special tokens count; of a pair the longer text is cut first.
        side = how.get("truncation_side", "right")
        self.tokenizer.enable_truncation(about["max_length"], direction=side)
        pad = how["pad_token"]
        pad = pad["content"] if isinstance(pad, dict) else pad
        # Right-hand padding to the longest of a batch; types of padding are 0.
        self.tokenizer.enable_padding(pad_id=self.tokenizer.token_to_id(pad), pad_token=pad)
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def logits(self, texts: list[str] | list[tuple[str, str]]) -> np.ndarray:
        """Logits [texts, labels] of one batch of texts, or of pairs."""
        rows = self.tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([row.ids for row in rows], np.int64),
            "attention_mask": np.array([row.attention_mask for row in rows], np.int64),
            "token_type_ids": np.array([row.type_ids for row in rows], np.int64),
        }
        takes = [each.name for each in self.session.get_inputs()]  # BERT alone has token types
        return self.session.run(["logits"], {name: inputs[name] for name in takes})[0]

    def predict(self, texts: list[str] | list[tuple[str, str]]) -> list[dict]:
        """Label, or labels, and probabilities of each, in order."""
        logits = self.logits(texts)
        answers = []
        if self.threshold is not None:
            for row in 1 / (1 + np.exp(-logits)):
                probabilities = dict(zip(self.labels, row.tolist(), strict=True))
                labels = [name for name, p in probabilities.items() if p > self.threshold]
                answers.append({"labels": labels, "probabilities": probabilities})
            return answers
        powers = np.exp(logits - logits.max(1, keepdims=True))
        for row in powers / powers.sum(1, keepdims=True):
            probabilities = dict(zip(self.labels, row.tolist(), strict=True))
            answers.append({"label": self.labels[row.argmax()], "probabilities": probabilities})
        return answers


def main(arguments: list[str]) -> None:
    folder, *texts = arguments
    model = Model(Path(folder))
    if model.pair:
        texts = list(zip(texts[::2], texts[1::2], strict=True))
    for answer in model.predict(texts):
        print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER TEXT ...")
    main(sys.argv[1:])
