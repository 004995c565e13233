"""The last table of a plain job: its model beside cheap baselines."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skip_exp.commands import train
from skip_exp.skill.skill import Skill
from skip_exp.within import show
from tests.helpers.toy import quick_settings, save_toy


def test_a_cut_model_is_judged_beside_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames: list[pd.DataFrame] = []

    def judge(frame: pd.DataFrame, **options: Any) -> list[str]:
        frames.append(frame)
        return judge_baselines(frame, **options)

    judge_baselines = show.judge_baselines
    monkeypatch.setattr(show, "judge_baselines", judge)
    save_toy(tmp_path)
    own = [*quick_settings(tmp_path / "backbone"), "--output", str(tmp_path / "out")]
    line = [str(tmp_path / "train.csv"), "--validation", str(tmp_path / "validation.csv"), *own]
    assert train.train(line) == 0
    assert "was it worth it?" in capsys.readouterr().out
    (frame,) = frames
    cut = "50 % cut, fp32"
    assert [*frame["model"]] == ["majority class", show.TF_IDF, show.HEAD, show.UNCUT, cut]
    assert frame["chosen"].tolist() == [False] * 4 + [True]
    for name in ("ms", "ms_p95", "texts_per_s", "mb"):
        assert frame[name].notna().tolist() == [False, True, True, True, True]
    (folder,) = (path.parent for path in (tmp_path / "out").glob("2*/*/result.json"))
    result = Skill.load(folder / "skill").result
    for state, place in (("dense", -2), ("final", -1)):
        assert frame["validation"].iloc[place] == pytest.approx(result["metric"][state])
        assert frame["select"].iloc[place] == pytest.approx(result["select"][state])
