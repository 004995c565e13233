"""The README's table: the least favourable figure of each kind, put between two marks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from skip_exp.bench import summary
from skip_exp.bench.__main__ import main
from skip_exp.bench.row import Reach, Report, Row, from_plain

ROOT = Path(__file__).resolve().parents[2]
FAST = Row("final", "batch 32", 1.0, 2.5, "ms", 2.5, 0.1, Reach(low=2.0))
SLOW = replace(FAST, setting="batch 8", ratio=2.1)
SWITCH = Row("switching", "a text", 40.0, unit="ms", reach=Reach(high=50.0, of="ours"))


@pytest.mark.parametrize(
    ("row", "beyond"),
    [
        (FAST, 0.25),
        (SWITCH, 0.2),
        (replace(FAST, ratio=1.5), -0.25),
        (replace(FAST, ratio=-1.0, reach=Reach(low=-1.5)), 1 / 3),
        (replace(FAST, ratio=1.04, reach=Reach(0.95, 1.05)), 0.01 / 1.05),
        (replace(FAST, ratio=None), float("-inf")),
    ],
)
def test_how_far_beyond_its_reach(row: Row, beyond: float) -> None:
    assert summary.margin(row) == pytest.approx(beyond)


def test_the_least_favourable_of_each_kind() -> None:
    busy = replace(SLOW, setting="batch 1", ratio=1.0, contended=True)
    plain = replace(FAST, name="masked", reach=None)
    reports = [
        Report("forward", "Final", "", (FAST, SLOW, busy, plain)),
        Report("served", "Served", "", error="peft is not installed"),
        Report("handling", "Handling", "", (SWITCH,)),
    ]
    assert summary.summary(reports).splitlines()[2:] == [
        "| Final | final | batch 8 | 1.00 ms | 2.50 ms | 2.10 ± 0.10 | ≥ 2.00 | yes |",
        "| Served |  |  |  |  |  |  | **failed** |",
        "| Handling | switching | a text | 40.0 ms |  |  | ours ≤ 50.0 ms | yes |",
    ]
    assert "*contended*" in summary.summary([Report("forward", "Final", "", (busy,))])


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{summary.START}\nold\n{summary.END}\nbelow\n")
    for _ in range(2):
        summary.refresh(readme, [Report("forward", "Final", "", (FAST,))])
        text = readme.read_text()
        assert text.startswith(f"above\n{summary.START}\n\n| comparison ")
        assert text.endswith(f"|\n\n{summary.END}\nbelow\n") and "old" not in text


def test_what_could_not_be_written_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no marks")
    given = ["--out", str(tmp_path), "--readme", str(readme)]
    assert main(given) == 2
    assert f"--readme {readme}: needs the line <!--" in capsys.readouterr().err
    assert main([*given, "--quick"]) == 2
    assert "--readme takes a whole run" in capsys.readouterr().err
    assert main(["--readme", str(tmp_path / "none.md")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_the_readme_shows_what_was_measured() -> None:
    found = json.loads((ROOT / "docs" / "bench.json").read_text())["comparisons"]
    reports = [
        Report(**each | {"rows": tuple(from_plain(row) for row in each["rows"])}) for each in found
    ]
    before, after = summary.parts(ROOT / "README.md")
    assert f"{before}\n\n{summary.summary(reports)}\n\n{after}" == (ROOT / "README.md").read_text()
