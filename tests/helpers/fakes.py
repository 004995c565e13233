"""Invented results with the fields of real ones, for the tests of what reads them."""

import json
import random
from itertools import product
from pathlib import Path

import pandas as pd

from skip_exp import results
from skip_exp.report import frame

LAYERS, UNITS, HEADS = 6, 64, 12
MAJORITY = {"sst2": 0.51, "rte": 0.53, "mrpc": 0.68, "cola": 0.69, "qnli": 0.50, "boolq": 0.62}


def result(
    task="sst2", backbone="minilm", ratio=0.5, seed=1, attribution="activation_gradient", **fields
):
    """A finished result whose numbers follow from its arguments alone."""
    draw = random.Random(f"{task}{backbone}{ratio}{seed}{attribution}")
    dense = MAJORITY[task] + 0.2 + draw.gauss(0, 0.006)
    loss = ratio**2 * (0.4 if attribution == "random" else 0.08)
    scores = {"dense": dense, "pruned": dense - 1.6 * loss, "final": dense - loss}
    name = "matthews" if task == "cola" else "accuracy"
    kept = [[f"encoder.{i}.ffn", round(UNITS * (1 - ratio)), UNITS] for i in range(LAYERS)]
    kept += [
        [f"encoder.{i}.self.heads", max(0, round(HEADS * (1 - ratio)) - i % 2), HEADS]
        for i in range(LAYERS)
    ]
    given = {
        "job_id": f"{task}-{backbone}-{attribution}-{ratio}-{seed}",
        "sweep": "grid",
        "task": task,
        "backbone": backbone,
        "seed": seed,
        "attribution": attribution,
        "ratio": ratio,
        "data_source": "local:/data",
        "n_eval": 870,
        "majority": {"accuracy": MAJORITY[task]},
        "metric": {"name": name, **scores},
        "metrics": {name: scores},
        "params": {"block_pruned": ratio, "all_pruned": 0.47 * ratio},
        "latency": {"speedup": 1 + 2.2 * ratio**1.4 + draw.gauss(0, 0.03), "contended": False},
        "keep_sizes": {site: [left, of] for site, left, of in kept},
        "seconds": {"total": 60.0},
        "skill": "skill",
        "config": {
            "task": {"name": task},
            "backbone": {"name": backbone},
            "tune": {"lr": 0.005},
            "prune": {"ratio": ratio, "sites": ["ffn", "heads"]},
            "seed": seed,
        },
        "finished": "2024-01-01T00:00:00+00:00",
        "versions": {},
        "git_commit": None,
    }  # fmt: skip
    return results.Result(**given | fields).to_dict()


def failed(error="prune.ratio=0.9: too much", **fields):
    return result(**fields) | {"status": "failed", "error": error, "metric": {}, "latency": {}}


def frame_of(found) -> pd.DataFrame:
    """The results as the report reads them."""
    return frame.order_runs(frame.rows(map(results.Result.model_validate, found)))


def store(root: Path, found) -> Path:
    """Write results as folders of jobs."""
    for index, each in enumerate(found):
        folder = root / f"{index:04d}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(each))
    return root


def grid(tasks, backbones, ratios, seeds=(1, 2, 3), attributions=("activation_gradient", "random")):
    return [result(*point) for point in product(tasks, backbones, ratios, seeds, attributions)]
