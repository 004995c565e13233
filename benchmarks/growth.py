"""How time and memory grow: with jobs, results, batch and length, and the size of the model."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks.models import SHAPES, keep_at, prompted_shape
from benchmarks.tables import PICTURE, Options, Row
from benchmarks.timing import compare, job, peak_memory, side_by_side
from skip_exp import results
from skip_exp.models.cost import random_batch
from skip_exp.models.sites import Sublayer
from skip_exp.pruning.surgery import cut
from skip_exp.utils.timing import alone, best_device

TITLE = "Growth"
ABOUT = (
    "Jobs: one sweep over that many ratios on SNLI pairs, with little training, from the "
    "command to each job's result; ratio: seconds a job of the second half over those of the first "
    "(1: linear). Results: reading that many result files and writing report and page. Memory: "
    "peak of a forward pass beyond the weights, minilm's shape, fp32. Size: forward passes of 8 "
    "texts of 128 tokens, ours with 52 % cut, theirs dense; ratio: how many times faster."
)
LITTLE = [
    *("+task=rte", "data.source=embedded", "data.max_length=32", "logger=none", "seed=1"),
    *("data.train_rows=720", "tune.epochs=2", "retune.epochs=1", "attribution.samples=32"),
    *("tune.min_steps=0", "retune.min_steps=0", "retune.budget=0"),
    "trainer.progress=false",
    *("benchmark.batch=2", "benchmark.seq_len=16", "benchmark.repeats=2"),
]


@dataclass(frozen=True)
class Panel:
    """One plot: a line per column over the index, whose name is that of the axis."""

    title: str
    unit: str
    lines: pd.DataFrame
    log_x: bool = False  # suits what spans factors; the axis shows the points' own values
    log_y: bool = False


Part = tuple[Panel, list[Row]]


def measure(options: Options) -> list[Row]:
    """Rows of the four, and their picture in ``options.out``."""
    parts = [part(options.quick) for part in (jobs, reports, memory, sizes)]
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / PICTURE, [panel for panel, _ in parts])
    return [row for _, rows in parts for row in rows]


def jobs(quick: bool) -> Part:
    """Wall time from the command to the result of its first, second, ... job."""
    number = 2 if quick else 5
    ratios = ",".join(f"{0.1 + 0.08 * i:.2f}" for i in range(number))
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        sweep = partial(job, [*LITTLE, f"prune.ratio={ratios}", "-m"], Path(folder))
        _, contended = alone(sweep, lock=False)  # its benchmark phases take the lock
        files = Path(folder).rglob(results.FILE)
        walls = sorted(file.stat().st_mtime - start for file in files)
    index = pd.RangeIndex(1, number + 1, name="jobs")
    lines = pd.DataFrame({"wall time": walls}, index)
    return Panel("A sweep", "seconds", lines), [job_row(walls, contended)]


def job_row(walls: Sequence[float], contended: bool) -> Row:
    """The first job pays for tuning and attribution; the others should cost the same."""
    last, middle = len(walls) - 1, len(walls) // 2
    per_job = (walls[last] - walls[0]) / max(1, last)
    halves = None
    if 0 < middle < last:
        later = (walls[last] - walls[middle]) / (last - middle)
        halves = later / ((walls[middle] - walls[0]) / middle)
    setting = f"{len(walls)} jobs; the first took {walls[0]:.1f} s"
    name = "each further job"
    return Row(name, setting, per_job, unit="s", ratio=halves, contended=contended)


def reports(quick: bool) -> Part:
    """Reading results and writing all reports of them, in new processes, as a user starts them."""
    counts = [10, 100] if quick else [10, 100, 1000]
    command = "python -m skip_exp report"
    argv = [sys.executable, "-m", "skip_exp", "report", "results", "--out", "report"]
    run = partial(subprocess.run, argv, check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root) / str(count) for count in counts]
        for folder, count in zip(folders, counts, strict=True):
            invent(folder / "results", count)
        calls = [partial(run, cwd=folder) for folder in folders]
        times = side_by_side(calls, seconds=0.0, least=1 if quick else 3)
    rows = [
        compare("report", f"{count:,} results", times, ours=call, theirs=None)
        for call, count in enumerate(counts)
    ]
    lines = pd.DataFrame({command: [row.ours for row in rows]}, pd.Index(counts, name="results"))
    return Panel("A report", "seconds", lines, log_x=True), rows


def invent(folder: Path, count: int) -> None:
    """Result files with the fields of real ones: tasks, ratios and seeds, as many as asked for."""
    units = [Sublayer.of("encoder", layer, "ffn").site("ffn") for layer in range(6)]
    for i in range(count):
        task, ratio, seed = ("sst2", "mrpc", "cola", "rte")[i % 4], (3 + i // 4 % 5) / 10, i // 20
        scores = {"dense": 0.84, "pruned": 0.8, "final": 0.84 - ratio / 20}
        result = results.Result(
            job_id=f"{i:08x}", sweep="invented", task=task, backbone="minilm", family="bert",
            seed=seed, prompt=results.Prompt(kind="prefix", length=16), readout="head",
            attribution="activation_gradient", ratio=ratio, ratio_reached=ratio,
            data_source="local:invented", data_is_sample=False, n_eval=800,
            majority={"accuracy": 0.5}, metric=results.MainScores(name="accuracy", **scores),
            metrics={"accuracy": scores},
            params=results.Params(block_pruned=ratio, all_pruned=ratio / 2),
            latency=results.Latency(speedup=1 + 2 * ratio, contended=False),
            seconds={"total": 60.0}, keep_sizes={site: [700, 1536] for site in units},
            skill="skill", finished=results.now(),
            config={"task": {"name": task}, "prune": {"ratio": ratio}, "seed": seed},
        )  # fmt: skip
        results.write(folder / f"{i:04d}", result)


def memory(quick: bool) -> Part:
    """Peak memory of a forward pass against batch and length."""
    batches, lengths = ([1, 4], [32]) if quick else ([1, 8, 32, 64], [32, 128, 256])
    model = prompted_shape("minilm").to(best_device())
    lines, rows = pd.DataFrame(index=pd.Index(batches, name="batch")), []
    with torch.inference_mode():
        model(**random_batch(model, 1, 8))  # what is allocated once
        for length in lengths:
            inputs = [random_batch(model, batch, length) for batch in batches]
            peaks = [peak_memory(partial(model, **batch)) for batch in inputs]
            lines[f"length {length}"] = peaks
            setting = f"batch {batches[-1]}, length {length}"
            rows.append(Row("forward pass", setting, peaks[-1], unit="MB"))
    return Panel("Peak memory", "MB", lines), rows


def sizes(quick: bool) -> Part:
    """Forward time of the dense and the cut model against the size of the blocks."""
    millions, rows = [], []
    for shape in list(SHAPES)[:2] if quick else SHAPES:
        dense = prompted_shape(shape).to(best_device())
        inputs, final = random_batch(dense, 8, 128), cut(dense, keep_at(dense))
        calls = [partial(model, **inputs) for model in (final, dense)]
        times = side_by_side(calls, seconds=0.0 if quick else 6.0)
        millions.append(dense.block_parameters() / 1e6)
        setting = f"{shape} shape, {millions[-1]:.1f} M block parameters"
        rows.append(compare("size", setting, times, unit="ms"))
    figures = {"dense": [row.theirs for row in rows], "52 % cut": [row.ours for row in rows]}
    lines = pd.DataFrame(figures, pd.Index(millions, name="block parameters, millions"))
    title = "Forward pass, batch 8, length 128"
    return Panel(title, "ms", lines, log_x=True, log_y=True), rows


def draw(file: Path, panels: Sequence[Panel]) -> None:
    """Write two by two panels as a PNG of 800 x 640; the same panels give the same bytes."""
    figure = Figure(figsize=(8.0, 6.4), dpi=100, layout="constrained")
    for axes, panel in zip(figure.subplots(2, 2).flat, panels, strict=True):
        scales = {"logx": panel.log_x, "logy": panel.log_y}
        look = {"style": ["o-", "s-", "^-"], "grid": True, "legend": panel.lines.shape[1] > 1}
        panel.lines.plot(ax=axes, title=panel.title, ylabel=panel.unit, **scales, **look)
        if panel.log_x:
            points = list(panel.lines.index)
            axes.set_xticks(points, [f"{x:,.0f}" if x >= 100 else f"{x:.2g}" for x in points])
            axes.minorticks_off()
        if not panel.log_y:
            axes.set_ylim(0, 1.1 * panel.lines.max(axis=None))
    figure.savefig(file, format="png", metadata={"Software": None})
