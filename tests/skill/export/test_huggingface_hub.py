"""Skills are pushed to a hub on the loopback and pulled from it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from skip_exp import Skill
from skip_exp.backbones.load import load_backbone
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from skip_exp.utils.hub import hub_reachable
from tests.helpers.hub import Hub, serving
from tests.helpers.saved import Saved, save_tiny_skill, tell


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    load_backbone.cache_clear()
    made = save_tiny_skill(tmp_path)
    tell(made, data="hub:nyu-mll/glue/sst2")
    return made


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub of this process, with its cache and token."""
    hub_reachable.cache_clear()
    with serving(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        yield server
    hub_reachable.cache_clear()


def pushed(hub: Hub) -> dict[str, bytes]:
    """The files of ``me/toy``."""
    return {path.name: path.read_bytes() for path in hub.folder("models", "me/toy").iterdir()}


def test_pushed_and_pulled_it_answers_alike(saved: Saved, hub: Hub) -> None:
    skill = Skill.load(saved.folder)
    assert skill.push_to_hub("me/toy") == f"{hub.url}/me/toy"
    assert hub.tokens == {"Bearer hf_token"}
    assert {"README.md", "config.json", "modeling_skip.py", "skill.json"} < pushed(hub).keys()
    assert b'model="me/toy"' in pushed(hub)["README.md"]
    hub.asked.clear()
    assert not [
        name for name, content in pushed(hub).items() if str(saved.backbone).encode() in content
    ]
    pulled = Skill.from_pretrained("me/toy", saved.backbone)
    assert pulled.predict(["a warm film"]) == skill.predict(["a warm film"])
    assert not any("model.safetensors" in each for each in hub.asked)


def test_the_command_pushes_what_it_wrote(saved: Saved, hub: Hub, capsys: Any) -> None:
    out = saved.folder.parent / "out"
    order = [str(saved.folder), str(out), "--format", "hf", "--push-to-hub", "me/toy"]
    assert main(order) == 0
    assert capsys.readouterr().out.endswith(f"pushed: {hub.url}/me/toy\n")
    assert pushed(hub) == {path.name: path.read_bytes() for path in out.iterdir()}


def test_nothing_is_left_of_a_skill_that_was_pushed_before(saved: Saved, hub: Hub) -> None:
    """A fully trained one has no skill.json: the old one would be pulled."""
    Skill.load(saved.folder).push_to_hub("me/toy")
    (hub.folder("models", "me/toy") / "notes.md").touch()
    full = save_tiny_skill(saved.folder.parent, name="full", train="full")
    Skill.load(full.folder).push_to_hub("me/toy")
    assert "notes.md" in pushed(hub) and "skill.json" not in pushed(hub)
    with pytest.raises(SkipError, match="AutoModel"):
        Skill.from_pretrained("me/toy")


def test_rounded_weights_and_stand_in_rows_are_not_pushed(saved: Saved, hub: Hub) -> None:
    rounded = Skill.load(saved.folder, precision="bf16")
    tell(saved, data="embedded:snli_pairs")
    for skill, why in ((rounded, "fp32"), (Skill.load(saved.folder), "SNLI")):
        with pytest.raises(SkipError, match=rf"^push to me/toy: .*{why}"):
            skill.push_to_hub("me/toy")
    assert not hub.root.exists()


def test_without_a_token_nothing_is_done(
    saved: Saved, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(saved.folder / "none"))
    out = saved.folder.parent / "out"
    order = [str(saved.folder), str(out), "--format", "hf", "--push-to-hub", "me/toy"]
    assert main(order) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: push to me/toy: ") and "HF_TOKEN" in told
    assert not hub.root.exists() and not out.exists()


def test_what_the_hub_says_is_one_line(saved: Saved, hub: Hub) -> None:
    hub.refusal = "not yours"
    for repo, why in (("me/toy", ".*403.*"), ("me/toy/more", ".*me/toy/more.*")):
        with pytest.raises(SkipError, match=rf"^push to {repo}: {why}$"):
            Skill.load(saved.folder).push_to_hub(repo)
    for repo in ("me/none", "no\nname"):
        with pytest.raises(SkipError, match=r"me/none|no") as caught:
            Skill.from_pretrained(repo)
        assert "\n" not in str(caught.value).removeprefix(repo)


def test_a_hub_that_does_not_answer_is_one_line(
    saved: Saved, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for act in (Skill.load(saved.folder).push_to_hub, Skill.from_pretrained):
        with pytest.raises(SkipError, match=r"^(push to )?me/toy: "):
            act("me/toy")
