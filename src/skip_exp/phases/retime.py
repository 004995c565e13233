"""A job that was done before: its scores hold on any machine, its timing does not."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skip_exp.job import Job
from skip_exp.machine.timing import place
from skip_exp.phases.benchmark import compare
from skip_exp.skill.rebuild import whole_model
from skip_exp.skill.skill import Skill
from skip_exp.training.trainer import root_device

log = logging.getLogger(__name__)


def again(job: Job, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """``latency`` and ``retimed`` of an earlier result's skill, here and now; {} where its holds.

    It does not where it was disturbed, or is of another device or number of threads.

    Raises:
        SkipError: the skill cannot be read any more.
    """
    device = str(root_device(job.trainer))
    why = _why(earlier["latency"], place(device))
    if not (why and job.cfg.benchmark.enabled):
        return {}
    log.info("done before; its timing is taken again: %s", why)
    skill = Skill.load(Path(earlier["path"]).parent / earlier["skill"])
    dense = whole_model(skill.about, skill.tokenizer)  # as fast as the tuned one
    return {"latency": compare(dense, skill.model, job.cfg.benchmark, device), "retimed": True}


def _why(latency: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Why an earlier timing is not one of this place; empty where it is."""
    if latency.get("contended"):
        return "it was contended"
    there = {name: latency.get(name) for name in here}
    told = ["{device}, threads={threads}".format(**place) for place in (there, here)]
    return "" if there == here else f"it is of {told[0]}; this is {told[1]}"
