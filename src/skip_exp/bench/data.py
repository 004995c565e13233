"""The rows that the comparisons read: real ones where SKIP_EXP_DATA is set, else the sample."""

import os

from omegaconf import OmegaConf

from skip_exp.config import schema as config
from skip_exp.data.encode import EncodedTask, encode
from skip_exp.data.sources import RawTask, load_task
from skip_exp.data.spec import task_spec
from skip_exp.models.backbones import Backbone, load_backbone

MAX_LENGTH = 128  # tokens of a text, theirs and ours


def is_real() -> bool:
    return bool(os.environ.get("SKIP_EXP_DATA"))


def raw(task: str) -> RawTask:
    """Texts and labels of ``conf/task/<task>.yaml``."""
    spec = task_spec(OmegaConf.load(config.conf_dir() / "task" / f"{task}.yaml"))
    folder = os.environ.get("SKIP_EXP_DATA")
    return load_task(spec, "local" if folder else "sample", folder, allow_sample=True)


def minilm() -> Backbone:
    """The embedded backbone."""
    return load_backbone("minilm", "embedded:minilm", "bert", "head")


def encoded(texts: RawTask) -> EncodedTask:
    """Token ids of a task's rows by the embedded backbone's tokenizer."""
    return encode(texts, minilm().tokenizer, MAX_LENGTH)


def named(task: str, is_sample: bool) -> str:
    """The task as a setting names it."""
    return f"{task} (generated sample)" if is_sample else task
