"""The search as one result: ``result.json`` with what was chosen, for tables and `compare`."""

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from skip_exp import results
from skip_exp.config.schema import Config
from skip_exp.results import Choice, Latency, MainScores, Result, Scores
from skip_exp.utils import timing
from skip_exp.within import show
from skip_exp.within.choose import Candidate

CHOSEN = "chosen"  # folder of the model that is chosen
OF_ONE_RUN = ("calibration", "cache", "probes", "seconds")  # fields of a single job alone
OF_ONE_MODEL = ("ratio_reached", "params", "flops", "keep_sizes")  # which a cascade lacks


def make_result(
    cfg: Config,
    key: str,
    jobs: Mapping[float, Result],
    frame: pd.DataFrame,
    chosen: Candidate,
    *,
    contended: bool,
) -> Result:
    """What a search leaves behind: the scores of the uncut and of the chosen model.

    Ratio and sizes are those of the chosen model; a cascade has the ratio of its first member, and
    no sizes. The speed-up is on the user's texts, over the uncut model in fp32.

    Args:
        key: stands for the search, as `job_id`.
        jobs: results of the jobs, by ratio.
        frame: see :func:`skip_exp.within.show.to_frame`.
    """
    ratio = chosen.models[0].ratio
    job = jobs[ratio].to_dict()
    left_out = OF_ONE_RUN if len(chosen.models) == 1 else OF_ONE_RUN + OF_ONE_MODEL
    (best,) = frame[frame["chosen"]].to_dict("records")
    (uncut,) = frame[frame["model"] == show.UNCUT].to_dict("records")
    found = {
        "job_id": key,
        "sweep": cfg.sweep.id,
        "ratio": ratio,
        "method": job["method"] | {"within": cfg.prune.within},
        "metric": MainScores(
            name=job["metric"]["name"], dense=uncut["validation"], final=best["validation"]
        ),
        "metrics": {},
        "select": Scores(dense=uncut["select"], final=best["select"]),
        "choice": Choice(model=best["model"], texts_per_s=best["texts_per_s"]),
        "latency": Latency(
            **timing.place("cpu"),
            dtype=best["form"],
            speedup=best["texts_per_s"] / uncut["texts_per_s"],
            contended=contended,
        ),
        "skill": CHOSEN,
        "config": asdict(cfg) | {"prompt": job["config"]["prompt"]},  # may be that of its start
        "finished": results.now(),
    }
    kept = {name: value for name, value in job.items() if name not in left_out}
    return Result(**kept | found)
