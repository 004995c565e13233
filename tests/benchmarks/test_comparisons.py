"""Every comparison compares the same thing: on tiny models, in numbers other than seconds."""

from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig

from benchmarks import attribution, baseline, forward, models
from benchmarks.tables import Reach
from benchmarks.timing import Times, compare, reported
from skip_exp.data.rows import Rows
from tests.helpers.saved import tokenizer
from tests.helpers.tiny import HEADS, HIDDEN, LAYERS, VOCAB, tiny_batch, tiny_inputs, tiny_model

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
