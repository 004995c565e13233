"""Tuning a head starts from logistic regression on what the untuned model gives it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skip_exp import pipeline
from skip_exp.job.job import Job
from skip_exp.job.prepare import prepare
from skip_exp.models.readouts import HeadReadout
from skip_exp.phases.fit import start_readout
from skip_exp.training import length
from tests.helpers.toy import save_toy, toy_job


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


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
    start_readout(job, model)
    assert loss_of(job, model) < 0.8 * before
    assert all(torch.equal(p, state[n]) for n, p in model.prompt.named_parameters())


def test_a_frozen_head_stays_and_the_log_says_so(
    toy: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = prepare(toy_job(toy, tmp_path, "run", "tune.train=prompt"))
    model = job.new_model()
    before = model.readout.linear.weight.clone()
    start_readout(job, model)
    assert torch.equal(model.readout.linear.weight, before)
    assert "tune.train=prompt" in caplog.text


@pytest.mark.parametrize(("ratio", "named"), [(0.5, "retune.budget"), (0.0, "retune.epochs")])
def test_a_fit_that_ended_too_early_names_the_key_that_makes_it_longer(
    toy: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    named: str,
) -> None:
    """The budget pays for twice the epochs of half a model, unless their number is given."""
    monkeypatch.setitem(length.UPDATES, "retune", (1, 1))
    monkeypatch.setattr("skip_exp.phases.fit.is_improving", lambda *_: True)
    monkeypatch.setattr("skip_exp.phases.fit.log_kept", lambda *_: None)
    pipeline.run(toy_job(toy, tmp_path, "run", f"prune.ratio={ratio}", "retune.epochs=null"))
    (told,) = [each for each in caplog.messages if each.startswith("retune: stopped")]
    assert told.endswith(named)
