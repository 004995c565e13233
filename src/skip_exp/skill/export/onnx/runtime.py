"""Answer texts with an ONNX export: onnxruntime and tokenizers, no torch or transformers."""

import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from skip_exp.errors import SkipError, first_line
from skip_exp.skill.classifier import Classifier, token_batches
from skip_exp.skill.record import (
    CONFIG,
    ONNX,
    SkillRecord,
    loading,
    parse_record,
    read_bytes,
    read_json,
)
from skip_exp.utils.files import parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # the last where the tokenizer has it
# onnxruntime's sum and norm in one operator take five times as long on a CPU as in two.
SLOWER = ["SkipLayerNormFusion"]
Run = Callable[[Mapping[str, "NDArray[Any]"]], "NDArray[Any]"]


class VocabularyRecord(BaseModel):
    """How many tokens are left of how many, and of which texts."""

    kept: int
    of: int
    texts: str


class OnnxRecord(SkillRecord):
    """What ``config.json`` says: the skill's record, and of the model beside it.

    Attributes:
        sha256: of ``model.onnx``.
        layers, settings: of exports that were written earlier; not read.
    """

    format: Literal["onnx"]
    int8: bool
    sha256: str
    vocabulary: VocabularyRecord | None = None
    layers: Any = None
    settings: Any = None


@dataclass(frozen=True, repr=False)
class OnnxSkill(Classifier):
    """An ONNX export, loaded; it needs no backbone.

    :meth:`predict` may be called from several threads at once: nothing changes after ``load``.
    """

    tokenizer: "Tokenizer"
    pad_id: int
    run: Run

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> "OnnxSkill":
        """Read what ``skip-exp export --format onnx`` wrote.

        Args:
            folder: where it was written to.
            threads: of onnxruntime; None: OMP_NUM_THREADS, or every core.

        Raises:
            SkipError: a file is missing, damaged, altered or of an unknown version, or a package
                is not installed.
        """
        folder = Path(folder)
        check_packages("onnxruntime", "tokenizers")
        described = read_json(folder / CONFIG)
        path = folder / ONNX
        if not path.is_file() or described.get("sha256") != sha256(path):
            raise SkipError(f"{folder}: damaged or altered: {ONNX} is not what {CONFIG} describes")
        about = parse_record(folder / CONFIG, described, OnnxRecord)
        tokenizer, pad_id = read_tokenizer(folder, about)
        return cls(about, tokenizer, pad_id, runner(path, threads))

    def probabilities(self, texts: list[list[str]], batch_tokens: int) -> list[list[float]]:
        import numpy as np  # with onnxruntime, a tenth of a second

        rows = encode(self.tokenizer, texts)
        answers: dict[int, list[float]] = {}
        for batch in token_batches([len(row["input_ids"]) for row in rows], batch_tokens):
            logits = self.run(padded([rows[i] for i in batch], self.pad_id))
            if (
                logits.shape != (len(batch), len(self.about.labels))
                or not np.isfinite(logits).all()
            ):
                wanted = f"{len(batch)} rows of {len(self.about.labels)} finite numbers"
                raise SkipError(f"{ONNX}: logits must be {wanted}, not {logits.shape}")
            powers = np.exp(logits - logits.max(1, keepdims=True))
            answers |= zip(batch, (powers / powers.sum(1, keepdims=True)).tolist(), strict=True)
        return [answers[i] for i in range(len(rows))]


def read_tokenizer(folder: Path, about: SkillRecord) -> tuple["Tokenizer", int]:
    """The tokenizer, set to truncate, and the id that pads. Raises SkipError."""
    from tokenizers import Tokenizer  # an extra of an extra: only this format needs it alone

    path, config_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    read_bytes(path)
    with loading(path):
        config = parse_json(read_bytes(config_path))
        tokenizer = Tokenizer.from_file(str(path))
        pad = config["pad_token"]
        pad_id = tokenizer.token_to_id(pad["content"] if isinstance(pad, dict) else pad)
        if pad_id is None:
            raise ValueError(f"no token {pad!r}")
        special = tokenizer.num_special_tokens_to_add(len(about.text) == 2)
        if special >= about.max_length:
            raise ValueError(f"max_length={about.max_length}: {special} are special tokens")
        side = {"direction": config.get("truncation_side", "right")}
        tokenizer.enable_truncation(about.max_length, **side)
        tokenizer.no_padding()
        encode(tokenizer, [about.text])
    return tokenizer, pad_id


def encode(tokenizer: "Tokenizer", texts: Sequence[Sequence[str]]) -> list[dict[str, list[int]]]:
    """Token ids and token types of every text or pair."""
    inputs = [tuple(row) if len(row) == 2 else row[0] for row in texts]
    encoded = tokenizer.encode_batch(inputs)
    return [{"input_ids": row.ids, "token_type_ids": row.type_ids} for row in encoded]


def padded(rows: Sequence[Mapping[str, list[int]]], pad_id: int) -> dict[str, "NDArray[Any]"]:
    """INPUTS, int64 [n, longest], right-padded as ``data.batches.collate`` does."""
    import numpy as np  # with onnxruntime

    lengths = [len(row["input_ids"]) for row in rows]
    shape = (len(rows), max(lengths))
    ids, types = np.full(shape, pad_id), np.zeros(shape, np.int64)
    for i, row in enumerate(rows):
        ids[i, : lengths[i]] = row["input_ids"]
        types[i, : lengths[i]] = row["token_type_ids"]
    mask = np.arange(shape[1]) < np.array(lengths)[:, None]
    return dict(zip(INPUTS, (ids, mask.astype(np.int64), types), strict=True))


def runner(path: Path, threads: int | None = None) -> Run:
    """INPUTS [B, T] -> logits fp32 [B, labels], by onnxruntime. Raises SkipError."""
    import onnxruntime  # an extra: only this format needs it

    given = os.environ.get("OMP_NUM_THREADS", "")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or (int(given) if given.isdecimal() else 0)
    options.log_severity_level = 4  # what fails is raised, in one line
    with loading(path):
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
        )
    names = [argument.name for argument in session.get_inputs()]
    if not set(names) <= set(INPUTS) or len(session.get_outputs()) != 1:
        raise SkipError(f"{path}: has inputs {', '.join(names)}, not {', '.join(INPUTS)}")

    def run(inputs: Mapping[str, "NDArray[Any]"]) -> "NDArray[Any]":
        try:
            (logits,) = session.run(None, {name: inputs[name] for name in names})
        except Exception as error:  # the same
            raise SkipError(f"{path}: cannot be run: {first_line(error)}") from error
        return logits

    return run


def check_packages(*packages: str) -> None:
    """Raise SkipError where one is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            advice = "pip install 'skip_exp[export]'"
            raise SkipError(f"--format onnx: {package} is not installed: {advice}")


def sha256(path: Path) -> str:
    """SHA-256 of the model, and of the files beside it where it is too large for one."""
    digest = hashlib.sha256()
    for part in sorted(path.parent.glob(f"{path.name}*")):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
