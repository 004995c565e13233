"""How long a fit runs, and the fitted head from which it starts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skip_exp.config.groups import RetuneConfig, TuneConfig
from skip_exp.models.readouts import HeadReadout
from skip_exp.phases import fit
from skip_exp.phases.fit import (
    FEW,
    FIXED,
    count_epochs,
    count_paid_epochs,
    fit_readout,
    tune,
)
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.phases.prune import attribute, prune
from tests.helpers.toy import toy_job


def of_cost(cost: float) -> float:
    """FLOPs that make an epoch cost so much, as fractions of the dense model's."""
    return (cost - FIXED) / (1 - FIXED)


@pytest.mark.parametrize(
    ("settings", "rows", "epochs"),
    [
        *((TuneConfig(), 10_000, 8), (TuneConfig(), 1216, 8)),
        *((TuneConfig(), 1184, 9), (TuneConfig(), 10, 300)),  # 300 steps of 32 texts
        *((RetuneConfig(), 100_000, 3), (RetuneConfig(), 640, 10)),  # 200 steps
        (TuneConfig(epochs=2, min_steps=0), 10, 2),
        (TuneConfig(epochs=2, min_steps=9, batch=4), 10, 3),
    ],
)
def test_few_rows_get_more_epochs(settings: TuneConfig, rows: int, epochs: int) -> None:
    assert count_epochs(settings, rows) == epochs


@pytest.mark.parametrize(
    ("budget", "operations", "epochs"),
    [
        (0.9, of_cost(1.0), 3),  # a dense fit costs three times the budget and still runs once
        *((0.9, of_cost(1 - 0.8), 3), (0.9, of_cost(1 - 0.85), 6)),
        (0.9, of_cost(1 - 0.9), 9),  # exactly, though 1 - 0.9 is slightly less than 0.1
        (0.0, of_cost(0.1), 3),
        # The fixed cost counts in every epoch: without it, 0.99 would get 198 epochs.
        *((2.0, 1.0, 3), (2.0, 0.2, 6), (2.0, 0.1, 15), (2.0, 0.01, 48)),
    ],
)
def test_a_cheaper_model_gets_more_epochs_within_the_budget(
    budget: float, operations: float, epochs: int
) -> None:
    assert count_paid_epochs(RetuneConfig(budget=budget), operations) == epochs


def loss_of(job: Job, model: nn.Module) -> float:
    total = 0.0
    for row in job.data.train:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logits = model(ids, torch.ones_like(ids))
        total += float(F.cross_entropy(logits, torch.tensor([row["label"]])))
    return total / len(job.data.train)


def test_a_head_starts_fitted_and_the_rest_as_it_was(toy: list[str], tmp_path: Path) -> None:
    job = prepare(toy_job(toy, tmp_path, "run"))
    model = job.new_model()
    assert isinstance(model.readout, HeadReadout)
    before, state = loss_of(job, model), {n: p.clone() for n, p in model.prompt.named_parameters()}
    fit_readout(job.trainer, model, job.data)
    assert loss_of(job, model) < 0.8 * before
    assert all(torch.equal(p, state[n]) for n, p in model.prompt.named_parameters())


def test_a_frozen_head_stays(toy: list[str], tmp_path: Path) -> None:
    job = prepare(toy_job(toy, tmp_path, "run", "tune.train=prompt"))
    model = job.new_model()
    before = model.readout.linear.weight.clone()
    fit_readout(job.trainer, model, job.data)
    assert torch.equal(model.readout.linear.weight, before)


def test_a_head_is_fitted_again_to_what_the_cut_left(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(toy_job(toy, tmp_path, "run", "tune.train=prompt_readout"))
    dense, _ = tune(job)
    relevance, _ = attribute(job, dense)
    pruned, _ = prune(dense.value, relevance.value, job.cfg.prune, 0.7, 1)
    starts: list[float] = []

    def see_start(*given: Any) -> Any:
        starts.append(loss_of(job, given[2]))
        return SimpleNamespace(timed_out=False), None

    monkeypatch.setattr(fit, "fit", see_start)
    fit.retune(job, dense, pruned, [])
    assert starts[0] < 0.9 * loss_of(job, pruned)


@pytest.mark.parametrize(("contrast", "is_fitted"), [(0.0, False), (0.5, True)])
@pytest.mark.parametrize("rows", [200, 400])
def test_a_head_is_fitted_again_where_few_texts_were_pulled_together(
    toy: list[str], tmp_path: Path, contrast: float, is_fitted: bool, rows: int
) -> None:
    own = [f"tune.contrast={contrast}", "tune.train=layers", f"data.train_rows={rows}"]
    job = prepare(toy_job(toy, tmp_path, "run", "tune.readout_lr=0.1", *own))
    model = tune(job)[0].value
    before = model.readout.linear.weight.clone()
    fit_readout(job.trainer, model, job.data)
    stays = torch.allclose(model.readout.linear.weight, before, atol=1e-3)
    assert stays == (is_fitted and rows < FEW)
