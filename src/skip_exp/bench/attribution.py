"""Attribution of every site: what it costs, and Captum's scores and costs beside it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skip_exp.attribution import activation_gradient, integrated_gradients
from skip_exp.attribution.aggregate import Relevance, Totals
from skip_exp.attribution.observe import Batch, Tap, logits, taps, token_mask, true_label
from skip_exp.bench import data, models
from skip_exp.bench.libraries import extra
from skip_exp.bench.row import Options, Reach, Row
from skip_exp.bench.timing import Times, peak_memory, side_by_side
from skip_exp.data.module import TextDataModule
from skip_exp.machine.timing import best_device
from skip_exp.models.soft_prompt import SoftPromptModel

TITLE = "Attribution"
ABOUT = (
    "Relevance of every neuron of minilm (FFN units, heads, query/key and value/output dims of all "
    "layers), fp32, train rows sorted by length. Theirs: plain forward passes of the same rows, or "
    "Captum's `LayerGradientXActivation` (all layers at once, one pass for layers' inputs and one "
    "for outputs) and `LayerIntegratedGradients` (baseline zero, its defaults). Ratio: "
    "our time over that of the forward passes; against Captum, how many times faster, and how many "
    "times less memory at the peak. Difference: the largest one, relative to the largest score."
)
TARGET = "probability"
SUMMED: dict[str, Any] = {"tokens": "sum", "sign": "absolute", "target": TARGET}
STEPS = 32  # of integrated gradients
SAMPLES, IG_SAMPLES, BATCH = 256, 4, 32


def measure(options: Options) -> list[Row]:
    """Rows of activation x gradient and of integrated gradients."""
    task = data.encoded(data.raw("sst2"))
    module = TextDataModule(task, BATCH, seed=1)
    model = models.prompted(data.minilm().model).to(best_device())
    samples, ig_samples = (32, 1) if options.quick else (SAMPLES, IG_SAMPLES)
    drawn = {n: _on_device(module.attribution_batches(n, BATCH, 1)) for n in (samples, ig_samples)}
    name = data.named("sst2", task.is_sample)
    return [
        *gradients(model, drawn[samples], f"{name}, {samples} samples", options.quick),
        *integrated(model, drawn[ig_samples], f"{name}, {ig_samples} samples", options.quick),
    ]


def _on_device(batches: Sequence[Batch]) -> list[Batch]:
    return [{name: x.to(best_device()) for name, x in batch.items()} for batch in batches]


class Kept:
    """A method whose last scores can be compared once it was timed."""

    def __init__(self, method: Callable[[], Relevance]) -> None:
        self.method = method
        self.scores: Relevance = {}

    def __call__(self) -> None:
        self.scores = self.method()


def gradients(
    model: SoftPromptModel, batches: Sequence[Batch], setting: str, quick: bool
) -> list[Row]:
    """Activation x gradient, a plain forward pass and Captum in turns."""
    ours = Kept(partial(activation_gradient.scores, model, batches, **SUMMED))
    theirs = Kept(partial(captum_gradients, model, batches))

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            logits(model, batch)

    times = side_by_side(
        [ours, forward, theirs], seconds=0.0 if quick else 20.0, least=3, inference=False
    )
    name, seconds = "activation x gradient", [times.median(call) for call in range(3)]
    ratio, spread = times.ratio(0, 1)
    passes = Row(
        f"{name}, in forward passes", setting, seconds[0], seconds[1], "s", ratio, spread,
        Reach(high=3.0), times.contended,
    )  # fmt: skip
    ratio, spread = times.ratio(2, 0)
    against = Row(
        f"{name} against Captum", setting, seconds[0], seconds[2], "s", ratio, spread,
        contended=times.contended,
    )  # fmt: skip
    return [passes, against, _difference(name, setting, ours.scores, theirs.scores)]


def integrated(
    model: SoftPromptModel, batches: Sequence[Batch], setting: str, quick: bool
) -> list[Row]:
    """Integrated gradients of every layer, in turns with Captum; scores and memory beside it."""
    steps = 2 if quick else STEPS
    setting = f"{setting}, {steps} steps"
    score = integrated_gradients.scores
    score(model, batches, steps=1, **SUMMED)  # a whole round to warm up would take a minute
    captum_integrated(model, batches, 1)
    ours = Kept(partial(score, model, batches, steps=steps, **SUMMED))
    theirs = Kept(partial(captum_integrated, model, batches, steps))
    times = side_by_side([ours, theirs], seconds=0.0, least=2, warm_up=False, inference=False)
    layers = len(model.attention_blocks())
    mine, other = (times.median(call) / layers for call in range(2))
    name = "integrated gradients"
    return [
        _per_layer(name, setting, mine, other, times),
        _difference(name, setting, ours.scores, theirs.scores),
        _memory(name, setting, *map(peak_memory, (ours, theirs))),
    ]


def _memory(name: str, setting: str, ours: float, theirs: float) -> Row:
    ratio = theirs / ours if ours else None
    name = f"{name}, peak memory"
    return Row(name, setting, ours, theirs, "MB", ratio, reach=Reach(low=1.0))


def _per_layer(name: str, setting: str, mine: float, other: float, times: Times) -> Row:
    ratio, spread = times.ratio(1, 0)
    reach = Reach(low=1.5)
    name = f"{name}, per layer"
    return Row(name, setting, mine, other, "s", ratio, spread, reach, times.contended)


def _difference(name: str, setting: str, ours: Relevance, theirs: Relevance) -> Row:
    name = f"{name}, difference"
    return Row(name, setting, difference(ours, theirs), reach=Reach(high=1e-4, of="ours"))


def difference(ours: Relevance, theirs: Relevance) -> float:
    """The largest difference of two scores of a neuron, relative to the largest score."""
    largest = max(float(each.abs().max()) for each in theirs.values())
    gaps = [float((ours[site] - each).abs().max()) for site, each in theirs.items()]
    return max(gaps) / largest


def captum_gradients(model: SoftPromptModel, batches: Sequence[Batch]) -> Relevance:
    """What ``activation_gradient.scores`` gives, by Captum. Raises SkipError without Captum."""
    method = extra("captum.attr").LayerGradientXActivation
    found, totals, texts = taps(model), Totals(model), 0
    on_graph = next(m for m in model.backbone.modules() if isinstance(m, torch.nn.LayerNorm)).weight
    on_graph.requires_grad_(True)  # the embeddings' norm: puts the first layer on the graph, too
    try:
        for batch in batches:
            for before in (True, False):
                group = {name: tap for name, tap in found.items() if tap.before == before}
                products = method(
                    _probability(model, batch), [tap.linear for tap in group.values()]
                ).attribute(*_arguments(batch), attribute_to_layer_input=before)
                for name, product in zip(group, products, strict=True):
                    _add(totals, model, batch, name, group[name], product)
            texts += len(batch["labels"])
    finally:
        on_graph.requires_grad_(False)
    return totals.means(texts)


def captum_integrated(model: SoftPromptModel, batches: Sequence[Batch], steps: int) -> Relevance:
    """What ``integrated_gradients.scores`` gives, by Captum. Raises SkipError without Captum.

    The input that Captum wants is a factor on the activation: of one, and of zero as the baseline.
    """
    method = extra("captum.attr").LayerIntegratedGradients
    totals, texts = Totals(model), 0
    for batch in batches:
        for name, tap in taps(model).items():
            product = _one_integrated(method, model, batch, tap, steps)
            _add(totals, model, batch, name, tap, product)
        texts += len(batch["labels"])
    return totals.means(texts)


def _one_integrated(
    method: Any, model: SoftPromptModel, batch: Batch, tap: Tap, steps: int
) -> Tensor:
    factors: list[Tensor] = []
    plain = _probability(model, batch)

    def probability(factor: Tensor, *rows: Tensor) -> Tensor:
        factors[:] = [factor[:, :, None]]
        return plain(*rows)

    handle = tap.hook(lambda x: x * factors[0])  # before Captum's own hook
    try:
        one = torch.ones(len(batch["labels"]), 1, device=batch["labels"].device)
        product: Tensor = method(probability, tap.linear).attribute(
            one,
            one * 0,
            additional_forward_args=tuple(batch.values()),
            n_steps=steps,
            attribute_to_layer_input=tap.before,
        )
        return product
    finally:
        handle.remove()


def _probability(model: SoftPromptModel, batch: Batch) -> Callable[..., Tensor]:
    names = tuple(batch)
    return lambda *rows: true_label(model, dict(zip(names, rows, strict=True)), TARGET)


def _arguments(batch: Batch) -> tuple[Tensor, None, tuple[Tensor, ...]]:
    """Input, target and the further arguments of the forward function."""
    first, *others = batch.values()
    return first, None, tuple(others)


def _add(
    totals: Totals, model: SoftPromptModel, batch: Batch, name: str, tap: Tap, product: Tensor
) -> None:
    mask = token_mask(model, tap, batch["attention_mask"])
    totals.add_positions(tap, tap.view(product.detach()), mask, SUMMED["tokens"], SUMMED["sign"])
