"""What the options of a sweep are, and which sweep names one that several have."""

from pathlib import Path

import pytest

from skip_exp.errors import SkipError
from skip_exp.report import grid, screens


def test_sweeps_that_repeat_options_name_them_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "read", lambda name, own=None: name)
    names = list(map(str, screens.read_all()))
    # Random keep on minilm is an opponent: its sweep names it, not the one of T5.
    assert "opponents" in names[:-2] and names[-2:] == list(screens.REPEATS)


@pytest.mark.parametrize("name", ["ablation_retune", "ablation_steps", "ablation_prompt"])
def test_a_job_is_the_same_whether_composed_anew_or_changed(name: str) -> None:
    ((factor, values),) = (each for each in grid.swept(name).items() if each[0] not in grid.SWEPT)
    task, further = ["+task=cola"], [[f"{factor}={value}"] for value in values]
    found = grid.composed_each(name, task, [[], *further])
    assert found == [grid.composed(name, [*task, *given]) for given in [[], *further]]


def test_a_value_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(SkipError, match=r"prune\.steps"):
        grid.composed_each(grid.PLAIN, ["+task=cola"], [["prune.steps=many"]])


MINE = """
defaults: [config, _self_]
sweep: {{question: "mine?", factor: [prune.steps]}}
prune: {prune}
hydra: {{mode: MULTIRUN, sweeper: {{params: {{+task: sst2, prune.steps: {steps}}}}}}}
"""


@pytest.mark.parametrize(
    ("prune", "steps", "told"),
    [
        (
            "{ratio: auto, max_drop: 1}",
            "'1,2'",
            r"^ablation_mine.yaml: prune.ratio=auto: must be num",
        ),
        ("{}", "'1,[2'", r"ablation_mine.yaml: hydra.sweeper.params: .+"),
    ],
)
def test_a_sweep_of_ones_own_that_cannot_be_compared(
    tmp_path: Path, prune: str, steps: str, told: str
) -> None:
    content = MINE.format(prune=prune, steps=steps)
    (tmp_path / "ablation_mine.yaml").write_text(content)
    with pytest.raises(SkipError, match=told) as caught:
        screens.read("ablation_mine", tmp_path)
    assert "\n" not in str(caught.value)
