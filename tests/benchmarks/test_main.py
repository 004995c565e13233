"""Comparisons in processes of their own, and their tables."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig

from benchmarks import __main__ as bench
from benchmarks import attribution, baseline, forward, models
from benchmarks.tables import Options, Reach, Report, Row, from_json, page, to_json
from benchmarks.timing import Times, compare, reported
from skip_exp.data.rows import Rows
from tests.helpers.saved import tokenizer
from tests.helpers.tiny import HEADS, HIDDEN, LAYERS, VOCAB, tiny_batch, tiny_inputs, tiny_model

ROW = Row("final", "batch 8", 1.0, 2.0, "ms", 2.0)


def replace_commands(monkeypatch: pytest.MonkeyPatch, codes: dict[str, str]) -> None:
    """Comparisons run the Python code given, or else write ROW."""

    def command(name: str, options: Options, rows: Path) -> list[str]:
        good = f"open({str(rows)!r}, 'w').write({json.dumps(to_json([ROW]))!r})"
        return [sys.executable, "-c", codes.get(name, good)]

    monkeypatch.setattr(bench, "command", command)


def options(folder: Path) -> Options:
    return Options(True, folder / "out")


def arguments(folder: Path) -> list[str]:
    return ["--out", str(folder / "out")]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; print('much'); sys.exit('error: peft is not installed')", "peft is not in"),
        ("raise ValueError('no such thing')", "ValueError: no such thing (exit code 1"),
        ("import os; os.kill(os.getpid(), 9)", "no output (exit code -9"),
    ],
)
def test_a_failure_is_told(
    code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_commands(monkeypatch, {"forward": code})
    report = bench.run("forward", options(tmp_path), timeout=60.0)
    assert report.error is not None and report.error.startswith(error)
    assert "forward.log" in report.error
    assert report.rows == ()


def test_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_commands(monkeypatch, {"training": "import sys; sys.exit('error: broken')"})
    assert bench.main(["--only", "attribution", "training", "forward", *arguments(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "error: training: broken (exit code 1" in captured.err
    assert captured.out.count("| final | batch 8 | 1.00 ms | 2.00 ms | 2.00  |") == 2
    comparisons = json.loads((tmp_path / "out" / "bench.json").read_text())["comparisons"]
    assert [(report["name"], len(report["rows"])) for report in comparisons] == [
        ("forward", 1),
        ("training", 0),
        ("attribution", 1),
    ]
    assert "**failed**: broken" in (tmp_path / "out" / "bench.md").read_text()
    replace_commands(monkeypatch, {})
    assert bench.main(["--only", "forward", *arguments(tmp_path)]) == 0


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--only", "none"])
    (tmp_path / "out").write_text("a file")
    assert bench.main(["--only", "forward", *arguments(tmp_path)]) == 2


ROOT = Path(__file__).resolve().parents[2]
TIMED = Row("forward", "batch 8", ours=2.0, theirs=5.0, unit="ms", ratio=2.5)


@pytest.mark.parametrize(
    ("reach", "met"),
    [
        (None, None),
        (Reach(low=2.5), True),
        (Reach(low=2.51), False),
        (Reach(high=2.5), True),
        (Reach(high=2.49), False),
        (Reach(0.95, 1.05), False),
        (Reach(2.4, 2.6), True),
        (Reach(high=2.0, of="ours"), True),
        (Reach(high=1.9, of="ours"), False),
    ],
)
def test_bounds_are_included(reach: Reach | None, met: bool | None) -> None:
    assert replace(TIMED, reach=reach).met is met


def test_rows_survive_json() -> None:
    rows = (TIMED, replace(TIMED, reach=Reach(0.9, 1.1), spread=0.1, contended=True))
    assert from_json(json.loads(json.dumps(to_json(rows)))) == rows


def words(text: str) -> list[list[str]]:
    """Lines without what only aligns them."""
    lines = [line.split() for line in text.splitlines()]
    return [line for line in lines if not set("".join(line)) <= set("|- ")]


def test_the_page_in_studies_is_written_from_the_figures_beside_it() -> None:
    content = json.loads((ROOT / "studies" / "bench.json").read_text())
    reports = [
        Report(**report | {"rows": from_json(report["rows"])}) for report in content["comparisons"]
    ]
    expected = (ROOT / "studies" / "bench.md").read_text()
    assert words(page(content["machine"], content["quick"], reports)) == words(expected)


SETTINGS = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 32,
    "initializer_range": 0.2,
}


def config() -> BertConfig:
    return BertConfig(**SETTINGS)  # type: ignore[arg-type]


def encoded(rows: int) -> Rows:
    """Rows of different lengths whose tokens tell them apart."""
    made = [{"input_ids": [2, *[5 + i % 40] * (1 + i % 7), 3], "label": i % 2} for i in range(rows)]
    return Rows(
        spec=SimpleNamespace(metrics=("accuracy",), num_labels=2),  # type: ignore[arg-type]
        train=made,
        select=made[:16],
        validation=made[:4],
        extra={},
        source="none",
        fingerprint="none",
        tokenizer=tokenizer("bert"),
    )


def test_the_masked_control_computes_what_the_cut_model_computes() -> None:
    final, dense, masked = forward.trio(models.prompted(models.backbone(config())))
    with torch.inference_mode():
        cut, whole, zeroed = (m(**tiny_inputs()) for m in (final, dense, masked))
    torch.testing.assert_close(cut, zeroed, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(whole, zeroed, atol=1e-4)


def test_the_baseline_trains_its_prompt_and_classifier_only() -> None:
    pytest.importorskip("peft")
    model = baseline.prompt_tuned(config())
    before = {name: p.clone() for name, p in model.named_parameters()}
    shapes = sorted(tuple(p.shape) for p in baseline.trained(model).values())
    assert shapes == [(2,), (2, HIDDEN), (models.LENGTH, HIDDEN)]
    task = encoded(64)
    loop = baseline.Loop(model, steps=2)
    loop.run(baseline.batches(task.train, 0))
    changed = {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}
    assert changed == set(baseline.trained(model))


def test_captum_and_ours_score_alike() -> None:
    pytest.importorskip("captum")
    model, batches = tiny_model(), [tiny_batch(seed=0), tiny_batch(seed=1, rows=3)]
    theirs = attribution.captum_integrated(model, batches, steps=6)
    score = attribution.integrated_gradients.scores
    ours = score(model, batches, steps=6, **attribution.SUMMED)
    assert attribution.difference(ours, theirs) < 1e-4
    other = score(model, batches, steps=1, **attribution.SUMMED)
    assert attribution.difference(other, theirs) > 1e-4


def test_rows_of_times_costs_and_rates() -> None:
    times = Times([[3.0] * 4, [1.0, 1.0, 2.0, 1.0]], contended=False)
    assert (times.median(1), times.ratio(0, 1)) == (1.0, (3.0, 0.5625))  # pair by pair
    times = Times([[0.5] * 3, [2.0] * 3], contended=False)
    row = compare("a", "b", times, unit="ms", reach=Reach(low=4.0))
    assert (row.ours, row.theirs, row.ratio, row.met) == (500.0, 2000.0, 4.0, True)
    row = compare("a", "b", times, cost=True, of=10)
    assert (row.ours, row.theirs, row.ratio, row.unit) == (0.05, 0.2, 0.25, "s")


def test_what_calls_report_counts_and_the_first_round_does_not() -> None:
    seen = iter([100.0, 200.0, 1.0, 2.0, 3.0, 4.0])
    times = reported([lambda: next(seen), lambda: next(seen)], repeats=2)
    assert times.seconds == [[1.0, 3.0], [2.0, 4.0]]
