"""A job may move its model; the backbone that was loaded stays on the CPU for whoever is next."""

from pathlib import Path

import pytest
import torch

from skip_exp.phases import fit
from skip_exp.phases import job as jobs
from skip_exp.phases.prepare import prepare
from skip_exp.phases.retune import ask_teacher
from tests.helpers.toy import save_toy, toy_job


@pytest.mark.parametrize("kind", ["prefix", "input"])
def test_a_job_elsewhere_leaves_the_loaded_backbone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands in for a GPU."""
    job = prepare(toy_job(save_toy(tmp_path), tmp_path, "run", f"prompt={kind}"))
    here = job.new_model()
    monkeypatch.setattr(jobs, "root_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(fit.trainers, "root_device", lambda _: torch.device("meta"))
    job.new_model().to("meta")  # as a trainer does
    with pytest.raises(NotImplementedError, match="meta"):  # its answers cannot be had from there
        ask_teacher(job.trainer, dense=job.new_model(), data=job.data, texts=job.data.train)
    assert {p.device.type for p in job.backbone.model.parameters()} == {"cpu"}
    later = job.new_model()  # what it starts from is computed on the CPU, whatever ran before
    assert all(
        torch.equal(a, b) for a, b in zip(here.parameters(), later.parameters(), strict=True)
    )
