"""Answer texts with an ONNX export: onnxruntime and tokenizers, no torch or transformers."""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import ConfigDict
from tokenizers import Tokenizer

from skip_exp.data.batches import Row, pad, tokenize
from skip_exp.errors import SkipError
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.record import (
    CONFIG,
    ONNX,
    RECORD,
    SkillRecord,
    loading,
    parse_record,
    read_bytes,
    read_json,
)
from skip_exp.utils.files import new_folder
from skip_exp.utils.machine import cores

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # the last only if the model has it
Run = Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]


class OnnxRecord(SkillRecord):
    """The fields of ``config.json``: the skill's record and the export's own.

    Attributes:
        vocabulary: {kept, of, texts} of a cut vocabulary.
    """

    model_config = ConfigDict(extra="ignore")  # what servers read of a checkpoint
    format: Literal["onnx"]
    int8: bool
    vocabulary: dict[str, int | str] | None = None


@dataclass(frozen=True, repr=False, eq=False)
class OnnxSkill(Classifier):
    """A loaded ONNX export; it needs no backbone.

    Several threads may call :meth:`predict` at once.
    """

    about: OnnxRecord
    tokenizer: Tokenizer
    pad_id: int
    run: Run
    source: tuple[Path, int | None]  # its folder and threads

    def __reduce__(self) -> Any:
        """Another process reads the folder again: a session of onnxruntime cannot be sent."""
        return OnnxSkill.load, self.source

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> "OnnxSkill":
        """Read an export of ``skip-exp export --format onnx``.

        Args:
            folder: the folder of the export.
            threads: threads of onnxruntime; None: OMP_NUM_THREADS, or as many as it may use cores.

        Raises:
            SkipError: a file is missing, damaged, altered or of an unknown version, or a package
                is not installed.
        """
        folder = Path(folder).expanduser().absolute()
        check_packages("onnxruntime")
        if (folder / RECORD).is_file() and not (folder / ONNX).is_file():
            raise SkipError(f"{folder}: is no ONNX export: Skill.load reads it")
        described = read_json(folder / CONFIG)
        if described.pop("sha256", None) != checksum(folder, described):
            files = ", ".join((CONFIG, ONNX, *TOKENIZER))
            raise SkipError(f"{folder}: damaged or altered: wrong checksum of {files}")
        about = parse_record(folder / CONFIG, described, OnnxRecord)
        tokenizer, pad_id = read_tokenizer(folder, about)
        run = runner(folder / ONNX, threads)
        return cls(about, tokenizer, pad_id, run, (folder, threads))

    def save(self, folder: str | Path) -> Path:
        out = Path(folder).expanduser()
        with new_folder(out) as temporary:
            shutil.copytree(self.source[0], temporary, dirs_exist_ok=True)
        return out

    @property
    def megabytes(self) -> float:
        files = self.source[0].iterdir()
        return sum(file.stat().st_size for file in files if file.is_file()) / 1e6

    def encode(self, texts: list[list[str]]) -> list[Row]:
        return tokenize(self.tokenizer, texts, self.about.max_length)[0]

    def answer(self, rows: list[Row]) -> list[list[float]]:
        logits = self.run(pad(rows, self.pad_id))
        return self.about.outcome.probabilities(logits).tolist()


def read_tokenizer(folder: Path, about: SkillRecord) -> tuple[Tokenizer, int]:
    """The tokenizer, set to truncate, and the padding id. Raises SkipError."""
    path = folder / TOKENIZER[0]
    with loading(path):
        config = json.loads(read_bytes(folder / TOKENIZER[1]))
        tokenizer = Tokenizer.from_file(str(path))
        pad = config["pad_token"]
        pad_id = tokenizer.token_to_id(pad["content"] if isinstance(pad, dict) else pad)
        if pad_id is None:
            raise ValueError(f"no token {pad!r}")
        tokenizer.enable_truncation(
            about.max_length, direction=config.get("truncation_side", "right")
        )
        tokenizer.no_padding()
    return tokenizer, pad_id


def runner(path: Path, threads: int | None = None) -> Run:
    """INPUTS [B, T] -> logits fp32 [B, labels], by onnxruntime. Raises SkipError."""
    import onnxruntime  # an optional dependency of this format

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _count_threads()
    # Spinning threads take cores from others: cut 8-bit models were up to half as fast.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # failures are raised, in one line
    with loading(path):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        with loading(path):
            (logits,) = session.run(None, {name: inputs[name] for name in names})
        return logits

    return run


def _count_threads() -> int:
    """OMP_NUM_THREADS, or the cores that this process may use; 0: all of the machine."""
    variable = os.environ.get("OMP_NUM_THREADS", "")
    if variable.isdecimal():
        return int(variable)
    usable = cores() or 0
    # Left to itself it starts a thread for each core of the machine, also where it may use a few.
    return usable if usable < (os.cpu_count() or 0) else 0


def check_packages(*packages: str) -> None:
    """Raise SkipError if a package is not installed."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            fix = "pip install 'skip_exp[export]'"
            raise SkipError(f"--format onnx: {name} is not installed: {fix}")


def checksum(folder: Path, described: Mapping[str, Any]) -> str:
    """SHA-256 over all fields but version and checksum, the tokenizer, and the model's files."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    names = [ONNX, *TOKENIZER]
    weights = f"{ONNX}.data"
    if (folder / weights).is_file():  # of a large model
        names.append(weights)
    for name in sorted(names):
        with loading(folder / name), (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
