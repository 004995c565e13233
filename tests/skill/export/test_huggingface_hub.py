"""The model card says what is known and nothing else; pushes to a hub on the loopback and pulls."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from skip_exp import Skill, results
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from skip_exp.models.backbones import load_backbone
from skip_exp.skill.export import card
from skip_exp.skill.files import read_skill, save_skill
from skip_exp.utils.hub import hub_reachable
from tests.helpers.push_hub import PushHub, push_hub
from tests.helpers.saved import Saved, save_tiny_skill

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
    "latency": {
        **{"batch": 1, "seq_len": 128, "device": "Some CPU", "threads": 2, "dtype": "float32"},
        **{"dense_ms": 10.0, "final_ms": 5.0, "speedup": 2.0, "contended": False},
    },
    "config": {"task": {"hub": {"path": "nyu-mll/glue", "name": "sst2"}}},
    "versions": {"torch": "2.13"},
    "git_commit": "abc",
    "finished": "2026-01-01T00:00:00+00:00",
    "backbone_note": "saw train labels: all of them",
}


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A finished job: its skill, result and what Hydra noted."""
    load_backbone.cache_clear()
    made = save_tiny_skill(tmp_path)
    tell(made, data="hub:nyu-mll/glue/sst2")
    results.write(tmp_path, results.new(**RESULT))
    mine = ["output_dir=/my/folder", "task.files.train=/my/folder/a.csv", "logger=none"]
    note(tmp_path, ["+task=sst2", "prune.ratio=0.7", *mine])
    return made


def tell(saved: Saved, **scores: Any) -> None:
    about = saved.about.changed(scores=saved.about.scores.model_copy(update=scores))
    save_skill(saved.folder, saved.model, saved.keep, about)


def note(folder: Path, overrides: list[str], name: str = "config") -> None:
    (folder / ".hydra").mkdir(exist_ok=True)
    noted = {"hydra": {"overrides": {"task": overrides}, "job": {"config_name": name}}}
    (folder / ".hydra/hydra.yaml").write_text(json.dumps(noted))


def exported(saved: Saved) -> ModelCard:
    """The card in the folder that is exported."""
    out = saved.folder.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert main([str(saved.folder), str(out), "--format", "hf"]) == 0
    return ModelCard.load(out / "README.md")


# --- the card ---------------------------------------------------------------------------------


def test_the_card_tells_what_the_job_found(saved: Saved) -> None:
    found = exported(saved)
    data = found.data.to_dict()
    assert data["datasets"] == ["nyu-mll/glue"] and data["pipeline_tag"] == "text-classification"
    (score,) = found.data.eval_results
    assert (score.dataset_type, score.dataset_config) == ("nyu-mll/glue", "sst2")
    assert (score.metric_type, score.metric_value) == ("accuracy", 0.8337)
    for text in (
        "| accuracy | 0.848 | 0.834 | 0.509 |",
        "On the validation split, 872 rows. Data: nyu-mll/glue/sst2.",
        "70% of the parameters of attention and FFN layers, 33% of all: 22.7 M before, "
        "15.3 M after.",
        "| `encoder.0.self` | 2 | 2 query/key, 8 value |",
        "2.00 times as fast as before the cut: 10.0 ms -> 5.0 ms",
        "2 threads, on Some CPU.",
        "python -m skip_exp +task=sst2 prune.ratio=0.7\n",
        "seed 3, commit abc; torch 2.13",
        "- Backbone: saw train labels: all of them.",
        "- Texts are read up to 24 tokens",
        "model=FOLDER_OR_ID",
    ):
        assert text in found.content, text
    assert "/my/folder" not in found.content


def test_contended_timings_are_not_printed(saved: Saved) -> None:
    latency = RESULT["latency"] | {"contended": True}
    (saved.folder.parent / "result.json").unlink()
    results.write(saved.folder.parent, results.new(**RESULT | {"latency": latency}))
    content = exported(saved).content
    assert "measured beside other load" in content and "times as fast" not in content


def test_without_the_job_only_the_skill_speaks(saved: Saved) -> None:
    (saved.folder.parent / "result.json").unlink()
    shutil.rmtree(saved.folder.parent / ".hydra")
    found = exported(saved)
    assert found.data.eval_results[0].metric_value == 0.5
    assert "Not measured." in found.content and "How it was made" not in found.content


def test_a_result_of_another_skill_is_not_taken(saved: Saved) -> None:
    moved = saved.folder.rename(saved.folder.with_name("other"))
    assert card.job_result(moved) == {} and card.job_result(None) == {}


def test_the_folders_of_the_machine_stay_at_home(saved: Saved) -> None:
    tell(saved, data="local:/home/somebody/data")
    found = exported(saved)
    out = saved.folder.parent / "out"
    assert "Data: local files." in found.content
    assert not [path for path in out.iterdir() if b"/home/somebody" in path.read_bytes()]
    assert read_skill(out)[0].scores.data == "local"


def test_sample_data_are_told(saved: Saved) -> None:
    tell(saved, data="sample")
    assert (
        "**Tuned on generated sample data: its scores prove nothing.**" in exported(saved).content
    )


def test_a_sweeps_file_is_in_the_command(saved: Saved) -> None:
    note(saved.folder.parent, ["+task=rte", "seed=1"], "table2")
    found = card.job_command(saved.folder)
    assert found == "python -m skip_exp --config-name table2 +task=rte seed=1"


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


# --- pushing and pulling ----------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PushHub]:
    """The hub of this process, with its cache and token."""
    hub_reachable.cache_clear()
    with push_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        yield server
    hub_reachable.cache_clear()


def test_pushed_and_pulled_it_answers_alike(saved: Saved, hub: PushHub) -> None:
    skill = Skill.load(saved.folder)
    assert skill.push_to_hub("me/toy") == f"{hub.url}/me/toy"
    assert hub.tokens == {"Bearer hf_token"}
    files = hub.repos["me/toy"].keys()
    assert {"README.md", "config.json", "modeling_skip.py", "skill.json"} < files
    pulled = Skill.from_pretrained("me/toy")
    assert pulled.predict(["a warm film"]) == skill.predict(["a warm film"])
    assert set(hub.read) == {"skill.json", "skill.safetensors"}  # not the model
    assert b'pipeline("text-classification", model="me/toy",' in hub.repos["me/toy"]["README.md"]


def test_a_skill_that_is_all_weights_is_pulled_with_them(hub: PushHub, tmp_path: Path) -> None:
    load_backbone.cache_clear()
    saved = save_tiny_skill(tmp_path, train="full")
    skill = Skill.load(saved.folder)
    skill.push_to_hub("me/full")
    assert Skill.from_pretrained("me/full").predict(["a film"]) == skill.predict(["a film"])
    assert set(hub.read) == {"skill.json", "skill.safetensors", "model.safetensors"}


def test_the_command_pushes_what_it_wrote(saved: Saved, hub: PushHub, capsys: Any) -> None:
    out = saved.folder.parent / "out"
    order = [str(saved.folder), str(out), "--format", "hf", "--push-to-hub", "me/toy"]
    assert main(order) == 0
    assert capsys.readouterr().out.endswith(f"pushed: {hub.url}/me/toy\n")
    assert hub.repos["me/toy"] == {path.name: path.read_bytes() for path in out.iterdir()}
    assert 'model="me/toy"' in (out / "README.md").read_text()


def test_nothing_is_left_of_a_skill_that_was_pushed_before(
    saved: Saved, hub: PushHub, tmp_path: Path
) -> None:
    """A fully trained one with a cut vocabulary has no skill.json: the old one would be pulled."""
    Skill.load(saved.folder).push_to_hub("me/toy")
    mine = {"notes.md", "adapter/x.safetensors"}
    hub.repos["me/toy"] |= dict.fromkeys(mine, b"mine")
    full, out = save_tiny_skill(tmp_path, name="full", train="full"), tmp_path / "out"
    tell(full, data="hub:nyu-mll/glue/sst2")
    (tmp_path / "texts.txt").write_text("a warm film")
    how = ["--vocabulary", str(tmp_path / "texts.txt"), "--push-to-hub", "me/toy"]
    assert main([str(full.folder), str(out), *how]) == 0
    assert hub.repos["me/toy"].keys() == {path.name for path in out.iterdir()} | mine
    assert "skill.json" not in hub.repos["me/toy"]


def test_rounded_weights_are_not_pushed(saved: Saved, hub: PushHub) -> None:
    skill = Skill.load(saved.folder, precision="bf16")
    with pytest.raises(SkipError, match=r"^push to me/toy: weights are written in fp32; load the"):
        skill.push_to_hub("me/toy")
    assert not hub.repos


def test_without_a_token_nothing_is_done(
    saved: Saved, hub: PushHub, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(saved.folder / "none"))
    out = saved.folder.parent / "out"
    order = [str(saved.folder), str(out), "--format", "hf", "--push-to-hub", "me/toy"]
    assert main(order) == 2
    told = capsys.readouterr().err
    assert told == "error: push to me/toy: no token of the hub; run `hf auth login`, or HF_TOKEN\n"
    assert not hub.repos and not out.exists()


def test_sample_data_are_not_pushed(saved: Saved, hub: PushHub) -> None:
    tell(saved, data="sample")
    with pytest.raises(SkipError, match="tuned on generated sample data"):
        Skill.load(saved.folder).push_to_hub("me/toy")
    assert not hub.repos


def test_only_the_hf_format_is_pushed(saved: Saved, capsys: Any) -> None:
    order = [str(saved.folder), str(saved.folder.parent / "out"), "--push-to-hub", "me/toy"]
    assert main([*order, "--format", "onnx"]) == 2
    assert "--push-to-hub: not for --format onnx" in capsys.readouterr().err


def test_what_the_hub_says_is_one_line(saved: Saved, hub: PushHub) -> None:
    hub.refusal = "not yours"
    for repo, why in (("me/toy", ".*403.*"), ("me/toy/more", ".*me/toy/more.*")):
        with pytest.raises(SkipError, match=rf"^push to {repo}: {why}$"):
            Skill.load(saved.folder).push_to_hub(repo)
    for repo in ("me/none", "no\nname"):
        with pytest.raises(SkipError, match=r"neither a folder nor to be had: .+") as caught:
            Skill.from_pretrained(repo)
        assert "\n" not in str(caught.value).removeprefix(repo)


def test_a_hub_that_does_not_answer_is_one_line(
    saved: Saved, hub: PushHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for act in (Skill.load(saved.folder).push_to_hub, Skill.from_pretrained):
        with pytest.raises(SkipError, match=r"^(push to )?me/toy: .*cannot be reached from here$"):
            act("me/toy")
