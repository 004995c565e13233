"""The model card says what is known of a skill and its job, and nothing else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from skip_exp import Skill, results
from skip_exp.commands.export import main
from skip_exp.models.backbones import load_backbone
from skip_exp.skill.export import card
from skip_exp.skill.record import FactorsRecord
from tests.helpers.saved import Saved, save_tiny_skill, tell

RESULT: Any = {
    "skill": "skill",
    "seed": 3,
    "n_eval": 872,
    "majority": {"accuracy": 0.509},
    "metrics": {"accuracy": {"dense": 0.8475, "pruned": 0.7, "final": 0.83371}},
    "params": {
        **{"block_before": 100, "block_after": 30, "block_pruned": 0.7, "all_pruned": 0.327},
        **{"all_before": 22_700_000, "all_after": 15_300_000},
    },
    "keep_sizes": {"encoder.0.ffn": [4, 20]},
    "latency": {
        **{"batch": 1, "seq_len": 128, "device": "Some CPU", "threads": 2, "dtype": "float32"},
        **{"dense_ms": 10.0, "final_ms": 5.0, "speedup": 2.0, "contended": False},
    },
    "config": {"task": {"hub": {"path": "nyu-mll/glue", "name": "sst2"}, "validation": "dev"}},
    "versions": {"torch": "2.13"},
    "git_commit": "abc",
    "finished": "2026-01-01T00:00:00+00:00",
    "backbone_note": "saw train labels: all of them",
}
PACKAGED = ("hydra", "main", "sweeps", "schema")


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A finished job: its skill, result and what Hydra noted."""
    load_backbone.cache_clear()
    made = save_tiny_skill(tmp_path)
    tell(made, data="hub:nyu-mll/glue/sst2")
    results.write(tmp_path, results.new(**RESULT))
    note(tmp_path, ["+task=sst2", "prune.ratio=0.7", "output_dir=/my/folder", "logger=none"])
    return made


def change(saved: Saved, **fields: Any) -> None:
    """The job's result with other values."""
    (saved.folder.parent / results.FILE).unlink()
    results.write(saved.folder.parent, results.new(**RESULT | fields))


def note(
    folder: Path, overrides: list[str], name: str = "config", sources: tuple[str, ...] = PACKAGED
) -> None:
    (folder / ".hydra").mkdir(exist_ok=True)
    runtime = {"config_sources": [{"provider": source} for source in sources]}
    noted = {"overrides": {"task": overrides}, "job": {"config_name": name}, "runtime": runtime}
    (folder / ".hydra/hydra.yaml").write_text(json.dumps({"hydra": noted}))


def exported(saved: Saved) -> ModelCard:
    """The card in the folder that is exported."""
    out = saved.folder.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert main([str(saved.folder), str(out), "--format", "hf"]) == 0
    return ModelCard.load(out / "README.md")


def test_the_card_tells_what_the_job_found(saved: Saved) -> None:
    found = exported(saved)
    data = found.data.to_dict()
    assert data["datasets"] == ["nyu-mll/glue"] and data["pipeline_tag"] == "text-classification"
    assert {"pruned", "prompt-tuning"} < set(data["tags"])
    (score,) = found.data.eval_results
    assert (score.dataset_type, score.dataset_config) == ("nyu-mll/glue", "sst2")
    assert (score.metric_type, score.metric_value) == ("accuracy", 0.8337)
    for text in (
        "| accuracy | 0.848 | 0.834 | 0.509 |",
        "872 rows. Data: nyu-mll/glue/sst2.",
        "70% of the parameters",
        "22.7 M before, 15.3 M after.",
        "| `encoder.0.self` | 2 | 2 query/key, 8 value |",
        "2.00 times as fast",
        "10.0 ms -> 5.0 ms",
        "2 threads, on Some CPU.",
        "python -m skip_exp +task=sst2 prune.ratio=0.7\n",
        "seed 3, commit abc, torch 2.13.",
        "- Backbone: saw train labels: all of them.",
        "- Texts are read up to 24 tokens",
        "model=FOLDER_OR_ID",
        "Trained: a soft prompt (prefix, 4 tokens), the classification head.",
    ):
        assert text in found.content, text
    assert "/my/folder" not in found.content
    assert not re.search(r"\n\n\n|[{}]{2}|None", found.content)


def test_all_that_was_trained_is_named(saved: Saved) -> None:
    def trained(**fields: Any) -> str:
        return ", ".join(card.what_was_trained(saved.about.changed(**fields)))

    told = trained(train="lora", factors=FactorsRecord(rank=8, bytes=1))
    assert "biases and norms" in told and "low-rank updates (LoRA, rank 8)" in told
    assert "biases and norms" in trained(train="bias")
    assert "head" not in trained(train="prompt")
    prompt = saved.about.prompt.model_copy(update={"kind": "none"})
    told = trained(train="full", prompt=prompt)
    assert "every weight of the backbone" in told and "prompt" not in told


def test_an_unpruned_contended_job_without_a_commit(saved: Saved) -> None:
    params = RESULT["params"] | {"block_pruned": 0.0, "all_pruned": 0.0}
    latency = RESULT["latency"] | {"contended": True}
    sizes = {"encoder.0.ffn": [20, 20]}
    change(saved, params=params, keep_sizes=sizes, latency=latency, git_commit=None)
    found = exported(saved)
    for text in ("removed", "## Size", "times as fast", "commit", "validation"):
        assert text not in found.content, text
    assert "other load" in found.content and "On the dev split" in found.content
    assert "pruned" not in found.data.tags
    assert found.data.eval_results[0].dataset_split == "dev"


@pytest.mark.parametrize(
    ("overrides", "sources"),
    [
        (["+task=mine"], (*PACKAGED, "command-line")),
        (["+task=sst2", "task.files.train=/my/folder/a.csv"], PACKAGED),
        (["+task=sst2", "data.dir='~/data'"], PACKAGED),
    ],
)
def test_a_command_that_runs_on_this_machine_alone_is_left_out(
    saved: Saved, overrides: list[str], sources: tuple[str, ...]
) -> None:
    note(saved.folder.parent, overrides, sources=sources)
    assert card.job_command(saved.folder) == ""


def test_a_sweeps_file_is_in_the_command(saved: Saved) -> None:
    note(saved.folder.parent, ["+task=rte", "seed=1"], "table2")
    found = card.job_command(saved.folder)
    assert found == "python -m skip_exp --config-name table2 +task=rte seed=1"


def test_without_the_job_only_the_skill_speaks(saved: Saved) -> None:
    (saved.folder.parent / "result.json").unlink()
    shutil.rmtree(saved.folder.parent / ".hydra")
    found = exported(saved)
    assert found.data.eval_results[0].metric_value == 0.5
    assert "Not measured." in found.content and "How it was made" not in found.content
    assert "| `encoder.0.ffn` | 4 |  |" in found.content


def test_a_result_of_another_skill_is_not_taken(saved: Saved) -> None:
    moved = saved.folder.rename(saved.folder.with_name("other"))
    assert card.job_result(moved) == {} and card.job_result(None) == {}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("embedded:snli_pairs", "**Tuned on SNLI pairs"),
        ("embedded:banking77", "Data: rows that come with skip_exp."),
        ("local:/home/somebody/data", "Data: local files."),
        ("hub:nyu-mll/glue/sst2", "Data: nyu-mll/glue."),
    ],
)
def test_where_the_data_came_from_and_no_folder(saved: Saved, data: str, told: str) -> None:
    (saved.folder.parent / "result.json").unlink()
    tell(saved, data=data)
    assert told in exported(saved).content
    out = saved.folder.parent / "out"
    assert not [path for path in out.iterdir() if b"/home/somebody" in path.read_bytes()]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("embedded:minilm", ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0")),
        ("embedded:roberta_mini", (None, "apache-2.0")),
        ("embedded:t5_mini", (None, "mit")),
        ("FacebookAI/roberta-base", ("FacebookAI/roberta-base", "mit")),
        ("somebody/model", ("somebody/model", None)),
        ("/home/somebody/model", (None, None)),
    ],
)
def test_id_and_licence_of_a_backbone(saved: Saved, path: str, expected: Any) -> None:
    backbone = saved.about.backbone.model_copy(update={"path": path})
    assert card.backbone_origin(saved.about.changed(backbone=backbone)) == expected


# --- of an ONNX export -----------------------------------------------------------------------


def onnx_card(saved: Saved, **how: bool) -> str:
    skill = Skill.load(saved.folder)
    parts = (skill.about, skill.model, skill.tokenizer, skill.folder)
    return card.model_card(*parts, onnx=True, **how).content


def test_how_a_text_becomes_input(saved: Saved) -> None:
    text = onnx_card(saved)
    assert "One text: `sentence`" in text and "at most 24 (`max_length`)" in text
    assert "with the id 0\n   (`[PAD]`" in text and "`token_type_ids` are the tokenizer's" in text
    assert "logits [batch, 2]" in text and "OnnxSkill.load(FOLDER)" in text
    assert "| 0 | negative |\n| 1 | positive |" in text
    assert "8-bit" not in text and "8-bit" in onnx_card(saved, int8=True)


def test_of_a_pair_and_of_a_model_without_token_types(tmp_path: Path) -> None:
    text = onnx_card(save_tiny_skill(tmp_path, "roberta", text=("question", "{title}: {passage}")))
    assert "Two texts: `question` and `{title}: {passage}`" in text
    assert "longest-first" in text
    assert "with the id 1\n   (`<pad>`" in text and "token_type_ids" not in text
    assert 'predict([["one text", "another"]])' in text


def test_its_code_loads_the_folder(onnx_folder: Path) -> None:
    text = (onnx_folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, place := {"FOLDER": str(onnx_folder)})
    assert place["skill"].about.task == "toy"
