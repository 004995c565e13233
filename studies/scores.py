"""``python -m studies.scores``: what the scores of gradient methods rest on, by target and sign.

    export SKIP_EXP_DATA=outputs/halves/1
    python -m studies.scores +task=sst2 seed=1 cache.dir=outputs/cache

One dense model, tuned as the arguments say or read from the cache. A gradient method is a mean over
texts, so scores are computed once per text and target, on up to 1,024 train rows and on altered
copies of 256. Each target and sign makes a row of results/scores.csv: how many texts carry the
score, how far halves and samples of the rows agree, what stays in which layer, and what the cut
model scores before it is re-tuned.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from skip_exp.attribution import magnitude, random
from skip_exp.attribution.observe import logits, products, taps
from skip_exp.config import compose
from skip_exp.config.together import job_config
from skip_exp.data.batches import Row, batch_by_length
from skip_exp.data.metrics import build_metrics
from skip_exp.data.module import TextDataModule
from skip_exp.models.sites import Relevance, Site, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.fit import ask
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.phases.tune import tune
from skip_exp.pruning.allocate import allocate
from skip_exp.pruning.surgery import cut

ROWS = Path(__file__).parent / "results/scores.csv"
TARGETS = {
    "probability": ("probability", 1.0),
    "log_probability": ("log_probability", 1.0),
    "log_probability / 4": ("log_probability", 4.0),
    "log_odds": ("log_odds", 1.0),
}
SIGNS = ("absolute", "signed", "text", "square")
RATIOS = (0.52, 0.7, 0.9, 0.95)
ROWS_OF_ALL = 1024  # train rows at most
SAMPLES = (64, 256)
ALTERED = 256  # copies of as many texts
SCORED = 400  # rows of the reported split


def main() -> int:
    job = prepare(job_config(compose.compose_config("config", sys.argv[1:])))
    dense = tune(job)[0].value.eval()
    rows = shuffled(job.data.train)[:ROWS_OF_ALL]
    altered = altered_rows(job, rows[:ALTERED])
    answers = Answers(job, dense)
    found: list[dict[str, Any]] = []
    for name in TARGETS:
        found += rows_of_target(dense, job, name, rows, altered, answers)
    for name, relevance in controls(dense).items():
        found.append({"target": name, "sign": "", **answers.scores(relevance)})
    for row in found:
        row.update(
            task=job.cfg.task.name, train=job.cfg.tune.train, seed=job.cfg.seed, rows=len(rows)
        )
    add(pd.DataFrame(found))
    return 0


def shuffled(rows: list[Row]) -> list[Row]:
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def altered_rows(job: Job, rows: list[Row]) -> list[Row]:
    """The first altered version of each of the rows."""
    count, place = len(job.data.train), {id(row): i for i, row in enumerate(job.data.train)}
    taught = job.taught.value
    return [taught[count + place[id(row)]] | {"label": row["label"]} for row in rows]


class Answers:
    """Scores cuts of a dense model on rows of the reported split."""

    def __init__(self, job: Job, dense: SoftPromptModel) -> None:
        self.job, self.model = job, dense
        self.rows = shuffled(job.data.validation)[:SCORED]
        self.labels = torch.tensor([row["label"] for row in self.rows])
        self.dense = self.of(dense)

    def of(self, model: SoftPromptModel) -> Tensor:
        rows = TextDataModule(self.job.data, 1, 0, rows=self.rows)
        return ask(self.job.trainer, model, rows, logits, "scoring").float()

    def metric(self, found: Tensor) -> float:
        metrics = build_metrics(self.job.data.spec)
        metrics.update(found.argmax(-1), self.labels)
        return 100 * float(metrics.compute()[self.job.metric])

    def scores(self, relevance: Relevance, ratios: Sequence[float] = RATIOS) -> dict[str, Any]:
        """Score and divergence from the dense model at every ratio; what stays at 90 %."""
        row: dict[str, Any] = {"dense": self.metric(self.dense)}
        for ratio in ratios:
            prune = self.job.cfg.prune
            keep = allocate(
                relevance,
                self.model.shapes(),
                ratio=ratio,
                sites=prune.sites,
                allocation=prune.allocation,
                round_to=prune.round_to,
            )
            found = self.of(cut(self.model, keep))
            row[f"pruned {ratio}"] = self.metric(found)
            row[f"divergence {ratio}"] = float(
                torch.nn.functional.kl_div(
                    found.log_softmax(1),
                    self.dense.log_softmax(1),
                    log_target=True,
                    reduction="batchmean",
                )
            )
            if ratio == 0.9:
                for kind in ("ffn", "heads"):
                    sizes = [len(x) for site, x in keep.items() if Site(site).kind == kind]
                    row[f"{kind} kept by layer"] = " ".join(map(str, sizes))
        return row


def rows_of_target(
    dense: SoftPromptModel,
    job: Job,
    name: str,
    rows: list[Row],
    altered: list[Row],
    answers: Answers,
) -> Iterator[dict[str, Any]]:
    """A row per sign."""
    absolute, signed = by_text(dense, job, rows, *TARGETS[name])
    of_altered = by_text(dense, job, altered, *TARGETS[name])
    for sign in SIGNS:
        scores, other = (of_sign(pair, sign) for pair in ((absolute, signed), of_altered))
        whole = scores.mean(0)
        row: dict[str, Any] = {"target": name, "sign": sign}
        weights = scores[:256].abs().sum(1).double()
        row["effective texts of 256"] = float(weights.sum() ** 2 / weights.square().sum())
        for count in SAMPLES:
            row[f"agreement of {count} with all"] = agree(scores[:count].mean(0), whole)
        row["agreement of halves of 256"] = agree(scores[:128].mean(0), scores[128:256].mean(0))
        row["agreement of halves of all"] = agree(scores[::2].mean(0), scores[1::2].mean(0))
        row["agreement of 256 with altered"] = agree(scores[:256].mean(0), other.mean(0))
        row |= answers.scores(to_relevance(dense, scores[:256].mean(0)))
        for what, mean in {"all rows": whole, "altered": other.mean(0)}.items():
            found = answers.scores(to_relevance(dense, mean), [0.9])
            row[f"pruned 0.9, {what}"] = found["pruned 0.9"]
        yield row


def by_text(
    model: SoftPromptModel, job: Job, rows: list[Row], target: str, temperature: float
) -> tuple[Tensor, Tensor]:
    """Sums over a text's positions of |h x gradient| and of h x gradient, [texts, neurons] each.

    Neurons are the FFN units and heads in the order of :func:`sites_of`.
    """
    data = TextDataModule(job.data, 1, 0, rows=rows)
    taps_by_name = {name: tap for name, tap in taps(model).items() if tap.signal not in ("q", "k")}
    absolute, signed = [], []
    by_length = batch_by_length(rows, 32)
    for part in by_length:
        batch = data._collate([rows[i] for i in part])
        found = products(model, batch, taps_by_name, target, temperature)
        parts: dict[str, Tensor] = {}
        for name, product in found.items():  # the gradient of padding is zero
            for site, x in taps_by_name[name].shares(product):
                parts[site] = x
        ordered = [parts[site] for site in sites_of(model)]
        absolute.append(torch.cat([x.abs().sum(1) for x in ordered], 1))
        signed.append(torch.cat([x.sum(1) for x in ordered], 1))
    place = torch.tensor([i for part in by_length for i in part]).argsort()
    return torch.cat(absolute)[place], torch.cat(signed)[place]


def sites_of(model: SoftPromptModel) -> list[Site]:
    return [site for site in site_sizes(model.shapes()) if site.kind in ("ffn", "heads")]


def of_sign(pair: tuple[Tensor, Tensor], sign: str) -> Tensor:
    absolute, signed = pair
    return {
        "absolute": absolute,
        "signed": signed,
        "text": signed.abs(),
        "square": signed.square(),
    }[sign]


def to_relevance(model: SoftPromptModel, scores: Tensor) -> Relevance:
    sizes = site_sizes(model.shapes())
    relevance: Relevance = random.scores(model, [])
    parts = scores.split([sizes[site][0] for site in sites_of(model)])
    return relevance | dict(zip(sites_of(model), parts, strict=True))


def agree(one: Tensor, other: Tensor) -> float:
    return float(spearmanr(one.numpy(), other.numpy()).statistic)


def controls(model: SoftPromptModel) -> dict[str, Relevance]:
    return {"magnitude": magnitude.scores(model, []), "random": random.scores(model, [])}


def add(found: pd.DataFrame) -> None:
    keys = ["task", "train", "seed", "target", "sign"]
    found = found[[*keys, *(name for name in found if name not in keys)]].round(4)
    if ROWS.is_file():
        before = pd.read_csv(ROWS, keep_default_na=False, na_values=["nan"])
        found = pd.concat([before, found]).drop_duplicates(keys, keep="last")
    found.sort_values(keys).to_csv(ROWS, index=False, lineterminator="\n")


if __name__ == "__main__":
    sys.exit(main())
