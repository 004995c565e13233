"""Speed of larger models by what is cut, with random weights: they are as fast as trained ones.

Example:

    python -m benchmarks.shapes --shapes bert_base ettin_32m --out outputs/shapes.csv
    OMP_NUM_THREADS=1 python -m benchmarks.shapes --shapes minilm --batch 1 --lengths 16 64

Every shape is timed whole and cut, in all of its layers and deep cuts also in half of them, in each
form that this machine has. All of them take turns on the same batches of full texts;
MiniLM's first layers beside them. There is no prompt, as in experiment=strong. Encoders have a head
on the mean; of T5 there is the encoder alone. The file is written after each shape and length. An
int8 export of a base shape takes a minute.
"""

import argparse
import copy
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import BertConfig, ModernBertConfig, RobertaConfig, T5Config, T5EncoderModel

from skip_exp.attribution import random
from skip_exp.data.batches import Row
from skip_exp.forms.registry import list_available
from skip_exp.models.families import FAMILIES
from skip_exp.models.readouts import HeadReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, random_batch, shapes_of
from skip_exp.phases.build import draw_weights, new_prompt
from skip_exp.pruning.allocate import allocate
from skip_exp.skill.export.onnx.runtime import INPUTS, runner
from skip_exp.skill.export.onnx.write import to_onnx
from skip_exp.skill.files import to_bf16
from skip_exp.skill.ranges import measure_ranges
from skip_exp.utils.timing import alone, interleave, place
from skip_exp.within.choose import Cut

RATIOS = (0.52, 0.7, 0.9, 0.95)
LAYERS = {"minilm": (3, 2, 1)}  # its first layers, beside the cuts
LENGTHS, BATCH = (32, 128), 32
LEAST, MOST = 3, 200  # rounds
HALVED = 0.7  # such a cut and deeper ones are also made in half of the layers
BLOCK = 320  # tokens that a model reads in one turn, at least: the first ones find cold caches
SHAPES: dict[str, Any] = {  # the settings of what conf/backbone names
    "bert_base": BertConfig(),
    "roberta_base": RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "t5_base": T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12),
    "modernbert_base": ModernBertConfig(),
    "ettin_17m": ModernBertConfig(
        hidden_size=256, num_hidden_layers=7, num_attention_heads=4, intermediate_size=384
    ),
    "ettin_32m": ModernBertConfig(
        hidden_size=384, num_hidden_layers=10, num_attention_heads=6, intermediate_size=576
    ),
    "minilm": BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ),
    "bert-tiny": BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
    ),
}


@dataclass(frozen=True)
class Times:
    """Seconds of calls that took turns, [calls][rounds]."""

    seconds: list[list[float]]
    contended: bool

    def median(self, call: int) -> float:
        return statistics.median(self.seconds[call])

    def ratio(self, over: int, under: int) -> tuple[float, float]:
        """Median of ``over`` / ``under``, pair by pair, and half its interquartile range."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        ratios = [a / b for a, b in pairs]
        low, _, high = statistics.quantiles(ratios, n=4)
        return statistics.median(ratios), (high - low) / 2


def build(settings: Any) -> SoftPromptModel:
    """The dense model of a shape."""
    torch.manual_seed(0)
    family = FAMILIES[settings.model_type]
    kind, options = family.loaders["encoder"], family.loader_options("encoder")
    model = kind(settings) if kind is T5EncoderModel else kind.from_config(settings, **options)
    model, readout = family.prepare(model), HeadReadout(model.config.hidden_size, 2)
    draw_weights(readout)
    prompt = new_prompt("none", model, family, torch.arange(0))
    return SoftPromptModel(model, family, prompt, readout).eval()


def list_models(name: str, ratios: Sequence[float]) -> dict[str, SoftPromptModel]:
    """The whole model first, then its cuts, then its first layers alone."""
    uncut = build(SHAPES[name])
    models, sizes = {"uncut": uncut}, shapes_of(uncut)
    relevance, sites = random.scores(uncut, []), ["ffn", "heads"]
    half = SHAPES[name].num_hidden_layers // 2
    halved = [(ratio, half) for ratio in ratios if ratio >= HALVED]
    for ratio, layers in [*((ratio, None) for ratio in ratios), *halved]:
        keep = allocate(relevance, sizes, ratio=ratio, sites=sites, layers=layers)
        models[str(Cut(ratio, layers))] = cut(uncut, keep, layers)
    for count in LAYERS.get(name, ()):
        fewer = copy.deepcopy(SHAPES[name])
        fewer.num_hidden_layers = count
        models[name_first(count)] = build(fewer)
    return models


def name_first(layers: int) -> str:
    """The name of a model of the first layers alone."""
    return "first layer" if layers == 1 else f"first {layers} layers"


def list_calls(
    models: dict[str, SoftPromptModel], inputs: dict[str, Tensor], folder: Path
) -> dict[tuple[str, str], Callable[[], object]]:
    """A forward pass of every model in every form, by name and form.

    Args:
        folder: where the exports are, or are written.
    """
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    forms = [form.name for form in list_available()]
    given = {name: x.numpy() for name, x in inputs.items()}
    given.setdefault("token_type_ids", torch.zeros_like(inputs["input_ids"]).numpy())
    for i, (name, model) in enumerate(models.items()):
        for form in forms:
            if form == "fp32":
                calls[name, form] = partial(model, **inputs)
            elif form == "bf16":
                half = model.copy()
                to_bf16(half)
                calls[name, form] = partial(half, **inputs)
            else:
                path = folder / f"{i}.onnx"
                if not path.exists():
                    rows = [Row(input_ids=ids) for ids in inputs["input_ids"].tolist()]
                    example = {name: inputs[name] for name in INPUTS if name in inputs}
                    to_onnx(model, example, path, measure_ranges(model, rows, pad_id=0))
                calls[name, form] = partial(runner(path, torch.get_num_threads()), given)
    return calls


def measure(
    name: str, length: int, batch: int, ratios: Sequence[float], seconds: float, folder: Path
) -> list[dict[str, Any]]:
    """A row per model and form: ms of a batch, and how many times the uncut model in fp32."""
    models = list_models(name, ratios)
    calls = list_calls(models, random_batch(models["uncut"], batch, length), folder)
    repeats = max(1, BLOCK // (batch * length))
    turns = [partial(repeat, call, repeats) for call in calls.values()]
    times = side_by_side(turns, seconds=seconds)
    rows = []
    for i, (model, form) in enumerate(calls):
        speedup, spread = times.ratio(0, i)
        row = {"shape": name, "texts": batch, "length": length, "form": form, "model": model}
        row |= {"ms": 1000 * times.median(i) / repeats, "speedup": speedup, "spread": spread}
        rows.append(row | {"contended": times.contended, **place("cpu")})
    return rows


def side_by_side(calls: Sequence[Callable[[], object]], *, seconds: float) -> Times:
    """Time ``calls`` in turns for about ``seconds``, after one round to warm up.

    The warm-up tells how many rounds fit: at least LEAST, at most MOST.
    """

    def measure() -> list[list[float]]:
        first = sum(map(sum, interleave(calls, repeats=1, warmup=0)))
        repeats = max(LEAST, min(MOST, int(seconds / first)))
        return interleave(calls, repeats=repeats, warmup=0)

    return Times(*alone(measure))


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shapes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [name for name in SHAPES if name != "bert-tiny"]
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=names, metavar="SHAPE")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--batch", type=int, default=BATCH, help="texts at once")
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS)
    parser.add_argument("--seconds", type=float, default=120.0, help="of every shape and length")
    parser.add_argument("--out", type=Path, default=Path("outputs/shapes.csv"))
    about = "folder of int8 exports, which a later run finds there (default: a temporary one)"
    parser.add_argument("--exports", type=Path, help=about)
    options = parser.parse_args()
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")  # kernels of all models
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in options.shapes:
        with TemporaryDirectory() as temporary:
            exports = (options.exports or Path(temporary)) / name
            exports.mkdir(parents=True, exist_ok=True)
            for length in options.lengths:
                print(f"{name}, length {length} ...", flush=True)
                sizes = length, options.batch, options.ratios
                rows += measure(name, *sizes, options.seconds, exports)
                pd.DataFrame(rows).to_csv(options.out, index=False, float_format="%.4g")
    table = pd.DataFrame(rows).pivot_table("ms", ["shape", "length", "form"], "model", sort=False)
    print(table.round(2).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
