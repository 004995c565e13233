"""Tuning a head starts from logistic regression on what the untuned model gives it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skip_exp.models.readouts import HeadReadout
from skip_exp.phases import retune
from skip_exp.phases.attribute import attribute
from skip_exp.phases.fit import start_readout
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.phases.prune import prune
from skip_exp.phases.tune import tune
from tests.helpers.toy import toy_job


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
    start_readout(job.trainer, model, job.data, "here")
    assert loss_of(job, model) < 0.8 * before
    assert all(torch.equal(p, state[n]) for n, p in model.prompt.named_parameters())


def test_a_frozen_head_stays_and_the_log_says_so(
    toy: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = prepare(toy_job(toy, tmp_path, "run", "tune.train=prompt"))
    model = job.new_model()
    before = model.readout.linear.weight.clone()
    start_readout(job.trainer, model, job.data, "here")
    assert torch.equal(model.readout.linear.weight, before)
    assert "tune.train=prompt" in caplog.text


def test_a_head_is_fitted_again_to_what_the_cut_left(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(toy_job(toy, tmp_path, "run"))
    dense, _ = tune(job)
    relevance, _ = attribute(job, dense)
    pruned = prune(job.trainer, dense.value, relevance.value, job.cfg.prune, 0.7, 1).model
    starts: list[float] = []

    def see_start(*given: Any) -> Any:
        starts.append(loss_of(job, given[2]))
        return SimpleNamespace(timed_out=False), None

    monkeypatch.setattr(retune, "fit", see_start)
    retune.retune(job, dense, pruned, [])
    assert starts[0] < 0.9 * loss_of(job, pruned)
