"""Every comparison compares the same thing: on tiny models, in numbers other than seconds."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig

from benchmarks import (
    attribution,
    baseline,
    forward,
    growth,
    ladder,
    models,
    modernbert,
    prefix,
    sweep,
)
from benchmarks.tables import Options, Reach
from benchmarks.timing import Times, compare, job, reported
from skip_exp import results
from skip_exp.commands.report import write
from skip_exp.data.rows import Rows
from skip_exp.errors import SkipError
from skip_exp.skill.skill import Skill
from tests.helpers.saved import save_tiny_skill, tokenizer
from tests.helpers.tiny import HEADS, HIDDEN, LAYERS, VOCAB, tiny_batch, tiny_model, tiny_modernbert

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
        cut, whole, zeroed = (m(**prefix.texts(dense, 4, 12)) for m in (final, dense, masked))
    torch.testing.assert_close(cut, zeroed, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(whole, zeroed, atol=1e-4)


def test_modernbert_is_cut_at_every_ratio_and_stands_beside_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modernbert, "config", tiny_modernbert)
    rows = modernbert.measure(Options(True, tmp_path, tmp_path))
    assert [row.name for row in rows] == ["whole", "final", "final", "final"]
    assert rows[0].ours == rows[1].theirs == rows[3].theirs  # our whole model
    assert "transformers" in rows[0].setting and "90%" in rows[3].setting


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


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A skill, and the folder of its ONNX exports: whoever comes first makes them, in seconds."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    return save_tiny_skill(folder).folder, folder / "work"


@pytest.mark.slow
def test_every_way_to_serve_a_skill_answers_as_it_predicts(exported: tuple[Path, Path]) -> None:
    folder, work = exported
    texts = [("a good film",), ("the plot was dull",), ("w40 w41",)]
    expected = [answer["label"] for answer in Skill.load(folder).predict(texts)]
    for _ in range(2):  # exported, then found
        steps = ladder.our_steps(dict.fromkeys((0.0, 0.9, 0.95), folder), work)
        cut = [f"{ratio} % cut" for ratio in (90, 95)]
        exports = [f"{name}, onnx {kind}" for kind in ("fp32", "int8") for name in cut]
        assert list(steps) == ["our dense model", *cut, *exports]
        assert [answer(texts) for answer in steps.values()] == [expected] * 7


def climbed(peft: float, dense: float, cut: float, int8: float) -> ladder.Ladder:
    """Four steps on ten texts that take 10, 5, 2 and 1 seconds and score what is given."""
    names, texts = [ladder.PEFT, "dense", "cut", "int8"], [("a",)] * 10
    times = Times([[10.0] * 3, [5.0] * 3, [2.0] * 3, [1.0] * 3], contended=False)
    scores = dict(zip(names, (peft, dense, cut, int8), strict=True))
    work = ladder.Work("toy, 10 texts", texts, ["b"] * 10)
    return ladder.Ladder(work, names[:1], names[1:], times, scores)


def test_every_step_is_compared_with_the_one_before() -> None:
    rows = climbed(0.8, 0.8, 0.8, 0.8).climbed()
    assert [row.name for row in rows] == [ladder.PEFT, "dense", "cut", "int8"]
    assert [row.ours for row in rows] == [1.0, 2.0, 5.0, 10.0]
    assert [row.theirs for row in rows] == [None, 1.0, 2.0, 5.0]
    assert [row.ratio for row in rows] == [None, 2.0, 2.5, 2.0]


def test_captum_and_ours_score_alike() -> None:
    pytest.importorskip("captum")
    model, batches = tiny_model(), [tiny_batch(seed=0), tiny_batch(seed=1, rows=3)]
    theirs = attribution.captum_gradients(model, batches)
    ours = attribution.activation_gradient.scores(model, batches, **attribution.SUMMED)
    assert theirs.keys() == ours.keys()
    assert attribution.difference(ours, theirs) < 1e-5
    assert not any(p.requires_grad for p in model.backbone.parameters())
    theirs = attribution.captum_integrated(model, batches, steps=6)
    score = attribution.integrated_gradients.scores
    ours = score(model, batches, steps=6, **attribution.SUMMED)
    assert attribution.difference(ours, theirs) < 1e-4
    other = score(model, batches, steps=1, **attribution.SUMMED)
    assert attribution.difference(other, theirs) > 1e-4


def test_the_overhead_is_what_no_phase_names() -> None:
    one = sweep.Command(wall=60.0, phases=52.0, jobs=1, contended=False)
    many = sweep.Command(wall=100.0, phases=88.0, jobs=3, contended=False)
    assert (one.outside, many.outside) == (8.0, 12.0)
    rows = sweep.compared(one, replace(many, contended=True), "rte")
    assert (rows[0].ours, rows[0].theirs, rows[0].ratio) == (100.0, 60.0, pytest.approx(5 / 3))
    # In a further job's the start of the process is no part: it is in both commands, once.
    assert [row.ours for row in rows[1:]] == [4.0, 2.0, 8.0]
    assert all(row.contended for row in rows)
    assert [row.met for row in sweep.compared(one, many, "rte")] == [True, False, True, False]
    assert sweep.phases(results.Result(seconds={"tune": 2.0, "test": 1.5, "total": 9.0})) == 3.5


def test_invented_results_can_be_reported(tmp_path: Path) -> None:
    growth.invent(tmp_path / "results", 24)
    invented = results.load(tmp_path / "results")
    settings = {(result["task"], result["ratio"], result["seed"]) for result in invented}
    assert len(invented) == len(settings) == 24
    write([str(tmp_path / "results")], tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()


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


def test_a_job_that_fails_is_an_error() -> None:
    with pytest.raises(SkipError):
        job(["--none"])
