"""How time and memory grow: with jobs, results, batch and length, and the size of the model."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from skip_exp import results
from skip_exp.bench import models
from skip_exp.bench.picture import Line, Panel, draw
from skip_exp.bench.row import Options, Row
from skip_exp.bench.timing import peak_memory, side_by_side
from skip_exp.bench.writer import PICTURE
from skip_exp.errors import SkipError
from skip_exp.machine.timing import alone, best_device
from skip_exp.models.cost import random_batch
from skip_exp.phases.finish import params
from skip_exp.pruning.surgery import cut

TITLE = "Growth"
ABOUT = (
    "Jobs: one sweep over that many ratios on generated rows, with little training, from the "
    "command to each job's result; ratio: seconds a job of the second half over those of the first "
    "(1: linear). Results: reading that many result files and writing report and page. Memory: "
    "peak of a forward pass beyond the weights, minilm's shape, fp32. Size: forward passes of 8 "
    "texts of 128 tokens, ours with 52 % cut, theirs dense; ratio: how many times faster."
)
LITTLE = [
    *("+task=sst2", "data.source=sample", "data.max_length=32", "logger=none", "seed=1"),
    *("tune.epochs=2", "retune.epochs=1", "attribution.samples=32", "trainer.progress=false"),
    *("benchmark.batch=2", "benchmark.seq_len=16", "benchmark.repeats=2", "benchmark.warmup=1"),
]


def measure(options: Options) -> list[Row]:
    """Rows of the four, and their picture in ``options.out``."""
    parts = [jobs, reports, memory, sizes]
    found = [part(options.quick) for part in parts]
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / PICTURE, [panel for panel, _ in found])
    return [row for _, rows in found for row in rows]


Part = tuple[Panel, list[Row]]


def jobs(quick: bool) -> Part:
    """Wall time from the command to the result of its first, second, ... job."""
    number = 2 if quick else 5
    ratios = ",".join(f"{0.1 + 0.08 * i:.2f}" for i in range(number))
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "skip_exp", *LITTLE, f"prune.ratio={ratios}", "-m"]
        start = time.time()
        run = partial(subprocess.run, argv, cwd=folder, capture_output=True, text=True)
        ended, contended = alone(run, lock=False)
        if ended.returncode:
            raise SkipError(f"the sweep of {number} jobs failed: {ended.stderr.strip()[-200:]}")
        files = Path(folder).rglob(results.FILE)
        walls = [wall - start for wall in sorted(file.stat().st_mtime for file in files)]
    panel = Panel(
        "A sweep", "jobs", "seconds", [Line("wall time", list(range(1, number + 1)), walls)]
    )
    return panel, [_job_row(walls, contended)]


def _job_row(walls: Sequence[float], contended: bool) -> Row:
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
    argv = [sys.executable, "-m", "skip_exp.report", "results", "--out", "report"]
    with tempfile.TemporaryDirectory() as root:
        calls = []
        for count in counts:
            folder = Path(root) / str(count)
            invent(folder / "results", count)
            run = partial(subprocess.run, argv, check=True, stdout=subprocess.DEVNULL)
            calls.append(partial(run, cwd=folder))
        times = side_by_side(calls, seconds=0.0, least=1 if quick else 3)
    seconds = [times.median(call) for call in range(len(counts))]
    rows = [
        Row("report", f"{count:,} results", taken, unit="s", contended=times.contended)
        for count, taken in zip(counts, seconds, strict=True)
    ]
    lines = [Line("python -m skip_exp.report", counts, seconds)]
    return Panel("A report", "results", "seconds", lines, log_x=True), rows


def invent(folder: Path, count: int) -> None:
    """Result files with the fields of real ones: tasks, ratios and seeds, as many as asked for."""
    for i in range(count):
        task, ratio, seed = ("sst2", "mrpc", "cola", "rte")[i % 4], (3 + i // 4 % 5) / 10, i // 20
        scores: results.Scores = {"dense": 0.84, "pruned": 0.8, "final": 0.84 - ratio / 20}
        result = results.new(
            job_id=f"{i:08x}", status="done", sweep="invented", task=task, backbone="minilm",
            family="bert", seed=seed, prompt={"kind": "prefix", "length": 16}, readout="head",
            attribution="activation_gradient", ratio=ratio, ratio_reached=ratio,
            data_source="local:invented", data_is_sample=False, n_eval=800,
            majority={"accuracy": 0.5}, metric={**scores, "name": "accuracy"},
            metrics={"accuracy": scores}, params={"block_pruned": ratio, "all_pruned": ratio / 2},
            latency={"speedup": 1 + 2 * ratio, "contended": False}, seconds={"total": 60.0},
            keep_sizes={f"encoder.{layer}.ffn": [700, 1536] for layer in range(6)}, skill="skill",
            config={"task": {"name": task}, "prune": {"ratio": ratio}, "seed": seed},
        )  # fmt: skip
        place = folder / f"{i:04d}"
        place.mkdir(parents=True)
        (place / results.FILE).write_text(json.dumps(result))


def memory(quick: bool) -> Part:
    """Peak memory of a forward pass against batch and length."""
    batches, lengths = ([1, 4], [32]) if quick else ([1, 8, 32, 64], [32, 128, 256])
    model = models.prompted(models.backbone(models.config("minilm"))).to(best_device())
    lines, rows = [], []
    with torch.inference_mode():
        model(**random_batch(model, 1, 8))  # what is allocated once
        for length in lengths:
            inputs = [random_batch(model, batch, length) for batch in batches]
            peaks = [peak_memory(partial(model, **each)) for each in inputs]
            lines.append(Line(f"length {length}", batches, peaks))
            setting = f"batch {batches[-1]}, length {length}"
            rows.append(Row("forward pass", setting, peaks[-1], unit="MB"))
    return Panel("Peak memory", "batch", "MB", lines), rows


def sizes(quick: bool) -> Part:
    """Forward time of the dense and the cut model against the size of the blocks."""
    shapes = ["bert-tiny", "minilm"] if quick else list(models.SHAPES)
    millions, dense_ms, final_ms, rows = [], [], [], []
    for shape in shapes:
        dense = models.prompted(models.backbone(models.config(shape))).to(best_device())
        final = cut(dense, models.keep_at(dense))
        inputs = random_batch(dense, 8, 128)
        calls = [partial(model, **inputs) for model in (dense, final)]
        times = side_by_side(calls, seconds=0.5 if quick else 6.0)
        millions.append(params(dense, final)["block_before"] / 1e6)
        dense_ms.append(1e3 * times.median(0))
        final_ms.append(1e3 * times.median(1))
        setting = f"{shape} shape, {millions[-1]:.1f} M block parameters"
        gain, spread = times.ratio(0, 1)
        rows.append(
            Row(
                "size", setting, final_ms[-1], dense_ms[-1], "ms", gain, spread,
                contended=times.contended,
            )
        )  # fmt: skip
    lines = [Line("dense", millions, dense_ms), Line("52 % cut", millions, final_ms)]
    title, where = "Forward pass, batch 8, length 128", "block parameters, millions"
    return Panel(title, where, "ms", lines, log_x=True, log_y=True), rows
