"""``tune.train=auto``: low-rank updates where the rows are enough for them."""

from dataclasses import replace
from pathlib import Path

import pytest

from skip_exp.config.decide import LONG, MANY, decided
from skip_exp.config.together import check_given
from skip_exp.errors import ConfigError
from tests.helpers.toy import composed, save_toy

START = LONG  # tokens of its prompt


@pytest.mark.parametrize(
    ("rows", "start", "asked"),
    [
        (MANY, None, []),
        (10, START, []),
        (10, None, ["prompt=none"]),
        (10, None, ["tune.train=lora"]),
    ],
)
def test_many_rows_or_a_start_have_low_rank_updates(
    tmp_path: Path, rows: int, start: int | None, asked: list[str]
) -> None:
    cfg = composed(*save_toy(tmp_path), f"output_dir={tmp_path}", *asked)
    found = decided(cfg, rows, start)
    tune = replace(cfg.tune, train="lora", dropout=True)
    retune = replace(cfg.retune, copies=4, budget=2.0)
    assert replace(found, prompt=cfg.prompt) == replace(cfg, tune=tune, retune=retune)


def test_few_rows_have_the_settings_of_the_prompt_alone(tmp_path: Path) -> None:
    given = [*save_toy(tmp_path), f"output_dir={tmp_path}"]
    found = decided(composed(*given), MANY - 1, None)
    prompt = composed(*given, "experiment=prompt")
    assert found.tune.prompt_lr == prompt.tune.prompt_lr
    assert replace(found.tune, lr=2e-2, start=None) == prompt.tune
    assert found.retune == prompt.retune
    asked = decided(composed(*given, "retune.copies=2", "retune.bias_lr=1e-4"), 10, None)
    assert asked.retune == replace(prompt.retune, copies=2, bias_lr=1e-4)
    assert decided(composed(*given, "tune.train=prompt"), 10, None).tune.train == "prompt"


@pytest.mark.parametrize(
    ("rows", "start", "asked", "length"),
    [
        (MANY, None, [], 4),
        (10, None, ["tune.train=lora"], 4),
        (10, None, ["tune.train=full", "retune.train=full"], 4),
        (10, None, [], 16),
        (MANY, None, ["experiment=prompt"], 16),
        (MANY, START, [], 16),  # as many as the start has
        (MANY, None, ["prompt.length=7"], 7),
    ],
)
def test_beside_updated_weights_the_prompt_is_short(
    tmp_path: Path, rows: int, start: int | None, asked: list[str], length: int
) -> None:
    given = [each for each in save_toy(tmp_path) if not each.startswith("prompt.length")]
    cfg = composed(*given, f"output_dir={tmp_path}", *asked)
    prompt = decided(cfg, rows, start).prompt
    assert prompt.length == length
    train = decided(cfg, rows, start).tune.train
    assert prompt.init == ("silent" if train in ("lora", "full") else "vocab")
    asked_too = composed(*given, f"output_dir={tmp_path}", *asked, "prompt.init=text")
    assert decided(asked_too, rows, start).prompt.init == "text"


def test_retune_goes_on_with_what_tune_may_train(tmp_path: Path) -> None:
    given = [*save_toy(tmp_path), f"output_dir={tmp_path}", "retune.train=bias"]
    composed(*given, "tune.train=prompt_readout")
    with pytest.raises(ConfigError) as refused:
        composed(*given)
    assert str(refused.value).startswith("retune.train=bias: ")


def test_the_rate_of_the_prompt_fits_what_is_trained(tmp_path: Path) -> None:
    given = [*save_toy(tmp_path), f"output_dir={tmp_path}"]
    rates = {
        train: composed(*given, f"tune.train={train}").tune.prompt_lr
        for train in ("lora", "prompt_readout")
    }
    assert rates == {"lora": 2e-3, "prompt_readout": 2e-2}
    assert composed(*given, "tune.train=lora", "tune.lr=0.1").tune.prompt_lr == 0.1


def test_all_weights_have_smaller_rates_than_biases(tmp_path: Path) -> None:
    given = [*save_toy(tmp_path), f"output_dir={tmp_path}"]
    full = [*given, "tune.train=full", "retune.train=full"]
    rates = [
        (cfg.tune.backbone_lr, cfg.retune.backbone_lr)
        for cfg in (composed(*given), composed(*full))
    ]
    assert rates == [(1e-3, 1e-3), (1e-4, 3e-4)]
    assert composed(*full, "retune.bias_lr=0").retune.backbone_lr == 0


@pytest.mark.parametrize("asked", ["retune.distill=0", "retune.enabled=false"])
def test_asked_copies_need_a_teacher_and_those_by_default_do_not(
    tmp_path: Path, asked: str
) -> None:
    cfg = composed(*save_toy(tmp_path), f"output_dir={tmp_path}", asked)
    check_given(cfg, [asked])
    check_given(cfg, [asked, "retune.copies=0"])
    with pytest.raises(ConfigError) as refused:
        check_given(cfg, [asked, "retune.copies=2"])
    assert str(refused.value).startswith("retune.copies=2: ")


def test_on_few_rows_a_given_value_stays_though_many_rows_have_it_by_default(
    tmp_path: Path,
) -> None:
    given = [*save_toy(tmp_path), f"output_dir={tmp_path}"]
    usual = decided(composed(*given), MANY, None)
    asked = ["retune.copies=4", "retune.budget=2", "tune.dropout=true"]
    few = decided(composed(*given, *asked), 10, None)
    found = (few.retune.copies, few.retune.budget, few.tune.dropout)
    assert found == (usual.retune.copies, usual.retune.budget, usual.tune.dropout)
    assert found == (4, 2.0, True)
