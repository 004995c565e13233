"""``tune.train=auto``: low-rank updates where the rows are enough for them."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from skip_exp.config.together import check_given
from skip_exp.errors import ConfigError
from skip_exp.job.prepare import MANY, decided
from skip_exp.job.start import Start
from tests.helpers.toy import composed, save_toy

START = cast(Start, object())


@pytest.mark.parametrize(
    ("rows", "start", "asked", "train"),
    [
        (MANY, None, [], "lora"),
        (MANY - 1, None, [], "prompt_readout"),
        (10, START, [], "lora"),
        (10, None, ["prompt=none"], "lora"),
        (10, None, ["tune.train=lora"], "lora"),
        (MANY, None, ["tune.train=prompt"], "prompt"),
    ],
)
def test_rows_or_a_start_decide(
    tmp_path: Path, rows: int, start: Start | None, asked: list[str], train: str
) -> None:
    cfg = composed(*save_toy(tmp_path), f"output_dir={tmp_path}", *asked)
    found = decided(cfg, rows, start)
    assert found == replace(cfg, tune=replace(cfg.tune, train=train))


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
