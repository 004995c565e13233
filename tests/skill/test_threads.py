"""Skills that several threads ask at once answer as they do when one asks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from skip_exp import Skill
from skip_exp.backbones.load import load_backbone
from skip_exp.models.attention import Attention
from skip_exp.models.surgery import flops
from skip_exp.skill.files import save_skill
from tests.helpers.saved import save_tiny_skill

TEXTS = ["a warm film", "dull", "the plot is long and the film was not funny " * 3, "very good"]
THREADS = 8
TIMES = 5  # how often each thread asks


def at_once(*asks: Callable[[], Any]) -> list[list[Any]]:
    """What every thread got, each time; all begin together."""
    start = Barrier(len(asks))

    def run(ask: Callable[[], Any]) -> list[Any]:
        start.wait(timeout=60)
        return [ask() for _ in range(TIMES)]

    with ThreadPoolExecutor(len(asks)) as pool:
        return list(pool.map(run, asks))


@pytest.mark.parametrize("prompt", ["prefix", "input"])
def test_eight_threads_ask_one_skill(tmp_path: Path, prompt: str) -> None:
    skill = Skill.load(save_tiny_skill(tmp_path, prompt=prompt).folder)
    parts = [[f"{text} w{i}" for text in TEXTS] for i in range(3, 3 + THREADS)]
    alone = [skill.predict(part) for part in parts]
    fresh = Skill.load(tmp_path / "skill")  # no thread finds a prompt that was put in place before
    answers = at_once(*(lambda part=part: fresh.predict(part) for part in parts))
    assert answers == [[expected] * TIMES for expected in alone]


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5"])
def test_reading_a_model_leaves_the_prefix_to_the_thread_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    skill = Skill.load(save_tiny_skill(tmp_path, kind, vanish=False).folder)
    skill.predict(TEXTS)
    own = {m: m.prefix for m in skill.model.modules() if isinstance(m, Attention)}
    taken: list[Attention] = []
    put = Attention.__setattr__

    def note(self: Attention, name: str, value: Any) -> None:
        taken.extend([self] if name == "prefix" and value is not own.get(self) else [])
        put(self, name, value)

    monkeypatch.setattr(Attention, "__setattr__", note)
    copied = skill.model.copy()
    flops(skill.model, 8)
    skill.model.on("meta")
    skill.with_vocabulary(TEXTS)
    assert all(m.prefix is None for m in copied.modules() if isinstance(m, Attention))
    assert all(prefix is not None and m.prefix is prefix for m, prefix in own.items())
    assert not {*own} & {*taken}


def test_skills_of_one_backbone_truncate_as_each_was_made_to(tmp_path: Path) -> None:
    skills = []
    for name, length in (("short", 5), ("long", 24)):
        saved = save_tiny_skill(tmp_path, name=name)
        about = saved.about.changed(max_length=length)
        save_skill(saved.folder, saved.model, saved.keep, about)
        skills.append(Skill.load(saved.folder))
    alone = [skill.predict(TEXTS) for skill in skills]
    assert alone[0] != alone[1]
    answers = at_once(*(lambda s=s: s.predict(TEXTS) for s in skills * (THREADS // 2)))
    assert answers == [[expected] * TIMES for expected in alone] * (THREADS // 2)


def test_a_skill_is_loaded_while_another_of_its_backbone_answers(tmp_path: Path) -> None:
    one = Skill.load(save_tiny_skill(tmp_path, name="one", vanish=True, seed=1).folder)
    two = save_tiny_skill(tmp_path, name="two", vanish=False, seed=2).folder
    alone = one.predict(TEXTS), Skill.load(two).predict(TEXTS)

    def load_anew() -> Any:
        load_backbone.cache_clear()
        return Skill.load(two).predict(TEXTS)

    *answers, loaded = at_once(*[lambda: one.predict(TEXTS)] * 3, load_anew)
    assert answers == [[alone[0]] * TIMES] * 3
    assert loaded == [alone[1]] * TIMES


def test_a_fit_draws_the_same_numbers_while_skills_are_loaded(tmp_path: Path) -> None:
    folder = save_tiny_skill(tmp_path).folder

    def draw(other: Callable[[], bool]) -> list[float]:
        torch.manual_seed(1)
        drawn = []
        while len(drawn) < 1000 or other():
            drawn.append(torch.rand(()).item())
        return drawn

    with ThreadPoolExecutor(1) as pool:
        loads = pool.submit(lambda: [Skill.load(folder) for _ in range(10)])
        beside = draw(loads.running)
        loads.result()
    torch.manual_seed(1)
    assert beside == [torch.rand(()).item() for _ in beside]


def test_a_fit_keeps_its_dropout_while_a_skill_is_loaded(tmp_path: Path) -> None:
    saved = save_tiny_skill(tmp_path)
    fitted = load_backbone("bert", str(saved.backbone), "bert", "head").model.train()
    skill = Skill.load(saved.folder)
    assert all(module.training for module in fitted.modules())
    assert not any(module.training for module in skill.model.modules())
    shared = fitted.get_input_embeddings().weight
    assert skill.model.backbone.get_input_embeddings().weight is shared
