"""The model card says what is known of a skill and its job, and nothing else."""

import json
import os
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
from skip_exp.skill.files import job_result
from tests.helpers.saved import Saved, save_tiny_skill, tell

RESULT: Any = {
    "skill": "skill",
    "seed": 3,
    "n_eval": 872,
    "majority": {"accuracy": 0.509},
    "metrics": {"accuracy": {"dense": 0.8475, "pruned": 0.7, "final": 0.83371}},
    "params": {
        "block_before": 100,
        "block_after": 30,
        "block_pruned": 0.7,
        "all_pruned": 0.327,
        "all_before": 22_700_000,
        "all_after": 15_300_000,
    },
    "keep_sizes": {"encoder.0.ffn": [4, 20]},
    "latency": {
        "batch": 1,
        "seq_len": 128,
        "device": "Some CPU",
        "threads": 2,
        "dtype": "float32",
        "dense_ms": 10.0,
        "final_ms": 5.0,
        "speedup": 2.0,
        "contended": False,
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
    results.write(tmp_path, results.Result(**RESULT))
    note(tmp_path, ["+task=sst2", "prune.ratio=0.7", "output_dir=/my/folder", "logger=none"])
    return made


def change(saved: Saved, **fields: Any) -> None:
    """The job's result with other values."""
    (saved.folder.parent / results.FILE).unlink()
    results.write(saved.folder.parent, results.Result(**RESULT | fields))


def note(
    folder: Path, overrides: list[str], name: str = "config", sources: tuple[str, ...] = PACKAGED
) -> None:
    (folder / ".hydra").mkdir(exist_ok=True)
    runtime = {"config_sources": [{"provider": source} for source in sources]}
    noted = {"overrides": {"task": overrides}, "job": {"config_name": name}, "runtime": runtime}
    (folder / ".hydra/hydra.yaml").write_text(json.dumps({"hydra": noted}))
    (folder / "result.json").touch()  # it comes later


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
    for fact in (
        "| accuracy | 0.848 | 0.834 | 0.509 |",
        "nyu-mll/glue/sst2",
        "22.7 M",
        "15.3 M",
        "| `encoder.0.self` | 2 |",
        "10.0 ms -> 5.0 ms",
        "python -m skip_exp +task=sst2 prune.ratio=0.7\n",
        "seed 3, commit abc, torch 2.13",
        "saw train labels: all of them",
        "prefix, 4 tokens",
    ):
        assert fact in found.content, fact
    assert "/my/folder" not in found.content
    assert not re.search(r"\n\n\n|[{}]{2}|None", found.content)


def names_no_folder(out: Path, *folders: str) -> bool:
    """Whether no file of an export names one of ``folders``, nor the user's or the package's."""
    private = (*folders, os.path.expanduser("~/"), str(Path(card.__file__).parents[4]))
    contents = [path.read_bytes() for path in out.iterdir()]
    return not any(folder.encode() in content for folder in private for content in contents)


def test_all_that_was_trained_is_named(saved: Saved) -> None:
    def trained(**fields: Any) -> str:
        return ", ".join(card.what_was_trained(saved.about.changed(**fields)))

    told = trained(train="lora", rank=8)
    assert "biases and norms" in told and "rank 8" in told
    assert "biases and norms" in trained(train="bias")
    assert "head" not in trained(train="prompt")
    prompt = saved.about.prompt.model_copy(update={"kind": "none"})
    head = saved.about.backbone.model_copy(update={"readout": "classifier"})
    assert "head" in trained(train="lora", rank=8, prompt=prompt, backbone=head)
    assert trained(train="none", prompt=prompt, backbone=head) == "nothing"
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
    assert "pruned" not in found.data.tags
    assert found.data.eval_results[0].dataset_split == "dev"


@pytest.mark.parametrize(
    ("overrides", "name", "sources", "command"),
    [
        (["+task=mine"], "config", (*PACKAGED, "command-line"), ""),
        (["+task=sst2", "task.files.train=/my/folder/a.csv"], "config", PACKAGED, ""),
        (["+task=sst2", "data.dir='~/data'"], "config", PACKAGED, ""),
        (
            ["+task=rte", "seed=1"],
            "table2",
            PACKAGED,
            "python -m skip_exp --config-name table2 +task=rte seed=1",
        ),
    ],
)
def test_only_a_command_that_runs_elsewhere_is_told(
    saved: Saved, overrides: list[str], name: str, sources: tuple[str, ...], command: str
) -> None:
    note(saved.folder.parent, overrides, name, sources)
    assert card.job_command(saved.folder) == command


def test_records_of_a_later_command_that_was_refused_are_not_told(saved: Saved) -> None:
    note(saved.folder.parent, ["+task=rte"], "config", PACKAGED)
    later = (saved.folder.parent / "result.json").stat().st_mtime + 5
    os.utime(saved.folder.parent / ".hydra/hydra.yaml", (later, later))
    assert card.job_command(saved.folder) == ""


def test_without_the_job_only_the_skill_speaks(saved: Saved) -> None:
    """Nor is a result of another skill taken, or a folder of the user's named."""
    moved = saved.folder.rename(saved.folder.with_name("other"))
    assert job_result(moved) == {} and job_result(None) == {}
    moved.rename(saved.folder)
    (saved.folder.parent / "result.json").unlink()
    shutil.rmtree(saved.folder.parent / ".hydra")
    tell(saved, data="local:/home/somebody/data")
    found = exported(saved)
    assert found.data.eval_results[0].metric_value == 0.5
    assert "| `encoder.0.ffn` | 4 |" in found.content
    assert names_no_folder(saved.folder.parent / "out", "/home/somebody", str(saved.backbone))
    tell(saved, data="embedded:snli_pairs")
    assert "SNLI" in exported(saved).content


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("embedded:minilm", ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0")),
        ("embedded:t5_mini", (None, "mit")),
        ("FacebookAI/roberta-base", ("FacebookAI/roberta-base", "mit")),
        ("somebody/model", ("somebody/model", None)),
        ("/home/somebody/model", (None, None)),
    ],
)
def test_id_and_licence_of_a_backbone(saved: Saved, path: str, expected: Any) -> None:
    backbone = saved.about.backbone.model_copy(update={"path": path})
    assert card.backbone_origin(saved.about.changed(backbone=backbone)) == expected


@pytest.mark.parametrize(
    ("start", "its_licence"), [(None, ""), ("skip_exp/nli", "cc-by-sa-4.0"), ("nli", "unknown")]
)
@pytest.mark.parametrize("licence", [None, "mit"])
def test_the_licence_is_the_owners_and_those_of_its_parts_are_told(
    saved: Saved, start: str | None, its_licence: str, licence: str | None
) -> None:
    skill = Skill.load(saved.folder)
    backbone = skill.about.backbone.model_copy(update={"path": "embedded:minilm"})
    about = skill.about.changed(start=start, backbone=backbone)
    parts = (about, skill.model, skill.tokenizer, skill.folder)
    made = card.model_card(*parts, license=licence)
    assert made.data.to_dict().get("license") == licence
    text = made.text
    assert "apache-2.0" in text and its_licence in text and (licence or "owner") in text
    assert (str(start) in text) == (start is not None)


def test_an_onnx_card_tells_how_a_text_becomes_input(saved: Saved, tmp_path: Path) -> None:
    def told(saved: Saved, **how: bool) -> str:
        skill = Skill.load(saved.folder)
        parts = (skill.about, skill.model, skill.tokenizer, skill.folder)
        return card.model_card(*parts, onnx=True, **how).content

    text = told(saved)
    assert "token_type_ids" in text and "| 0 | negative |\n| 1 | positive |" in text
    assert "8-bit" not in text and "8-bit" in told(saved, int8=True)
    pair = save_tiny_skill(tmp_path / "pair", "roberta", text=("question", "{title}: {passage}"))
    text = told(pair)
    assert "`question` and `{title}: {passage}`" in text and "token_type_ids" not in text


def test_names_are_no_markup(saved: Saved) -> None:
    names = ["<img src=x>\n# head", "a|b`c`"]
    skill = Skill.load(saved.folder)
    about = skill.about.changed(task="[t](x)\n# t", labels=names)
    parts = (about, skill.model, skill.tokenizer, skill.folder)
    for is_onnx in (False, True):
        text = card.model_card(*parts, onnx=is_onnx).content.partition("---\n\n#")[2]
        assert "\n# " not in text and "](x)" not in text.replace("\\](x)", "")
        if is_onnx:
            assert "| 0 | \\<img src=x\\> \\# head |\n| 1 | a\\|b\\`c\\` |" in text


def test_an_onnx_export_names_no_folder(tiny: Saved, onnx_folder: Path) -> None:
    assert names_no_folder(onnx_folder, str(tiny.backbone), str(onnx_folder.parent))


def test_its_code_loads_the_folder(onnx_folder: Path) -> None:
    text = (onnx_folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, place := {"FOLDER": str(onnx_folder)})
    assert place["skill"].about.task == "toy"
