"""Tasks and backbones of conf/, read from a hub that has them as they are published."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from skip_exp import results
from skip_exp.backbones.load import Backbone, load_backbone
from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import conf_dir, to_object
from tests.helpers.hub import Hub, serving
from tests.helpers.published import OTHER, TABLES, TRAIN

TASKS = {path.stem: path for path in sorted((conf_dir() / "task").glob("*.yaml"))}
# In a process of its own: the hub clients read their settings when they are imported.
READ = """
import json, re, sys
from omegaconf import OmegaConf
from skip_exp.data.sources import load_rows
from skip_exp.config.schema import DataConfig, to_object
from skip_exp.config.groups import TaskConfig

found = {}
for path in sys.argv[1:]:
    spec = to_object(OmegaConf.load(path), TaskConfig)
    rows = load_rows(spec, DataConfig(source="hub"))
    train = [*rows.train, *rows.select]
    train.sort(key=lambda row: int(re.search(r"(\\d+): ", row["texts"][0])[1]))
    splits = {spec.train: train, spec.validation: rows.validation, **rows.extra}
    found[spec.name] = {"source": rows.source, "splits": splits}
print(json.dumps(found))
"""


def spec(task: str) -> TaskConfig:
    return to_object(OmegaConf.load(TASKS[task]), TaskConfig)


@pytest.fixture(scope="module")
def read(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every task was read as, in one process and from an empty cache."""
    with serving(tables) as hub:
        done = subprocess.run(
            [sys.executable, "-c", READ, *map(str, TASKS.values())],
            env=hub.environment(tmp_path_factory.mktemp("home")),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Generating" not in done.stderr  # bars are for terminals
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_task_is_published() -> None:
    assert TASKS.keys() == TABLES.keys()


@pytest.mark.parametrize("task", TASKS)
def test_the_labels_are_the_published_ones_in_their_order(task: str) -> None:
    assert spec(task).labels == TABLES[task].labels.split("|")


@pytest.mark.parametrize("task", TASKS)
def test_rows_texts_and_labels(read: dict[str, Any], task: str) -> None:
    described, table = spec(task), TABLES[task]
    assert read[task]["source"] == "hub:" + "/".join(described.hub.values())
    sizes = {name: len(split) for name, split in read[task]["splits"].items()}
    others = described.splits[1:]
    assert sizes == {described.train: TRAIN} | dict.fromkeys(others, OTHER)
    for name, split in read[task]["splits"].items():
        assert table.splits[name], f"{name} has no labels"
        assert [row["label"] for row in split] == [
            i % len(described.labels) for i in range(sizes[name])
        ]
        for i, label in ((1, 1), (0, 0)):
            ending = f"{name} {i}: a {described.labels[label]} one"
            expected = [
                f"word {ending}: {column} {ending}" if task == "wic" else f"{column} {ending}"
                for column in (TEXTS.get(task) or ["sentence1", "sentence2"])
            ]
            assert split[i]["texts"] == expected


TEXTS = {  # the rest are sentence1 and sentence2
    "cola": ["sentence"],
    "sst2": ["sentence"],
    "imdb": ["text"],
    "banking77": ["text"],
    "ag_news": ["text"],
    "qqp": ["question1", "question2"],
    "mnli": ["premise", "hypothesis"],
    "cb": ["premise", "hypothesis"],
    "qnli": ["question", "sentence"],
    "boolq": ["question", "passage"],
}


def published(
    everything: Path, name: str, readout: str
) -> tuple[Backbone, dict[str, torch.Tensor]]:
    """A backbone of ``conf/backbone`` from its repository's files, and its weights as they are."""
    cfg = OmegaConf.load(conf_dir() / "backbone" / f"{name}.yaml")
    folder = everything / "models" / cfg.path
    b = load_backbone(name, str(folder), cfg.family, readout)
    return b, load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "readout", "prefix", "pad"),
    [
        ("bert_base", "head", "bert.", 0),
        ("bert_base", "mlm", "", 0),
        ("roberta_base", "head", "roberta.", 1),
        ("roberta_base", "mlm", "", 1),
        ("t5_base", "head", "", 0),
        ("t5_base", "seq2seq", "", 0),
        ("flan_t5_base", "seq2seq", "", 0),
    ],
)
def test_every_readout_finds_its_weights(
    everything: Path, tmp_path: Path, name: str, readout: str, prefix: str, pad: int
) -> None:
    b, stored = published(everything, name, readout)
    found = b.model.state_dict()
    same = {key for key, value in stored.items() if key.startswith(prefix)
            and key.removeprefix(prefix) in found
            and torch.equal(value, found[key.removeprefix(prefix)])}  # fmt: skip
    left_out = {"bert_base": ("pooler", "seq_relationship", "predictions"), "t5_base": ("decoder",)}
    unread = {key for key in stored if key not in same}
    assert all(any(part in key for part in left_out.get(name, ("lm_head",))) for key in unread)
    assert b.tokenizer.pad_token_id == b.model.config.pad_token_id == pad
    b.model.save_pretrained(tmp_path)
    b.tokenizer.save_pretrained(tmp_path)
    copy = load_backbone("copy", str(tmp_path), b.family.name, readout)
    assert copy.content_hash == b.content_hash


@pytest.mark.parametrize("name", ["modernbert_base", "ettin_17m"])
def test_modernberts_words_score_as_the_library_scores_them(everything: Path, name: str) -> None:
    """Also in texts longer than the window; its fused layers are stored under other names."""
    b, stored = published(everything, name, "mlm")
    assert "model.layers.1.attn.Wqkv.weight" in stored
    plain = AutoModelForMaskedLM.from_pretrained(b.path).eval()
    thetas = {kind: of["rope_theta"] for kind, of in plain.config.rope_parameters.items()}
    local = 10000.0 if name == "modernbert_base" else 160000.0
    assert thetas == {"full_attention": 160000.0, "sliding_attention": local}
    texts = ["a warm film", "sentence1 train 0: a not_entailment one " * 5]
    inputs = b.tokenizer(texts, padding=True, return_tensors="pt")
    assert b.tokenizer.pad_token_id == b.model.config.pad_token_id
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        mask = (1.0 - real[:, None, None].float()) * -1e4
        embeds = b.model.get_input_embeddings()(inputs["input_ids"])
        found = b.family.word_scores(b.model, b.family.encode(b.model, embeds, mask, None))
        torch.testing.assert_close(found[real], plain(**inputs).logits[real], atol=1e-5, rtol=1e-4)


def test_flan_has_an_output_matrix_of_its_own_and_no_scale(everything: Path) -> None:
    b, stored = published(everything, "flan_t5_base", "seq2seq")
    assert not torch.equal(stored["lm_head.weight"], stored["shared.weight"])
    assert torch.equal(b.model.lm_head.weight, stored["lm_head.weight"])
    assert b.model.config.scale_decoder_outputs is False
    plain, _ = published(everything, "t5_base", "seq2seq")
    assert plain.model.config.scale_decoder_outputs is True


SMALL = (
    *("data.source=hub", "tune.epochs=1", "retune.epochs=1", "attribution.samples=16"),
    *("tune.min_steps=0", "retune.min_steps=0", "retune.budget=0"),
    *("benchmark.enabled=false", "logger=none", "trainer.progress=false"),
)
ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run(hub, *arguments)`` in an empty folder, whose ``home`` holds the caches."""

    def start(hub: Hub, *arguments: str, module: str = "skip_exp") -> Any:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path,
            env=hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def done(folder: Path) -> list[Any]:
    return [found for found in results.load(folder / "outputs") if found["status"] == "done"]


def refusal(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that a job was refused with."""
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("error: "))
    return line


@pytest.mark.slow
def test_a_job_of_every_family_then_the_same_without_the_hub(
    everything: Path, run: Run, tmp_path: Path
) -> None:
    names = ("bert_base", "roberta_base", "modernbert_base", "ettin_17m", "t5_base", "flan_t5_base")
    backbones = f"backbone={','.join(names)}"
    command = (*SMALL, "+task=rte", backbones, "cache.dir=null", "sweep.skip_done=false", "-m")
    with serving(everything) as hub:
        ended = run(hub, *command)
    assert ended.returncode == 0, ended.stderr
    first = done(tmp_path)
    assert {found["backbone"] for found in first} == {*names}
    for found in first:
        assert found["data_source"] == "hub:nyu-mll/glue/rte" and not found["data_is_sample"]
    ended = run(hub, *command)  # nobody listens at its address any more
    assert ended.returncode == 0, ended.stderr
    again = done(tmp_path)[len(first) :]
    assert [found["metric"] for found in again] == [found["metric"] for found in first]


@pytest.mark.slow
def test_what_is_not_to_be_had_is_one_line(hub: Hub, run: Run) -> None:
    hub.gated = {"google/flan-t5-base"}
    login = "log in with `hf auth login`, or set HF_TOKEN"
    for start, page, options in (
        ("backbone.path=google/flan-t5-base", "google/flan-t5-base", ["backbone=flan_t5_base"]),
        ("backbone.path=no/thing", "no/thing", ["backbone=bert_base", "backbone.path=no/thing"]),
        ("task rte: task.hub=no/thing/rte", "datasets/no/thing", ["task.hub.path=no/thing"]),
    ):
        line = refusal(run(hub, *SMALL, "+task=rte", *options))
        assert line.startswith(f"error: {start}: ")
        assert line.endswith(f"; if {hub.url}/{page} is private or gated, {login}")
