"""Attribution of every site: what it costs, and Captum's scores and costs beside it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import extra, load_task, minilm, prompted, task_name
from benchmarks.tables import Options, Reach, Row
from benchmarks.timing import compare, peak_memory, side_by_side
from skip_exp.attribution import activation_gradient, integrated_gradients
from skip_exp.attribution.observe import Tap, Totals, logits, taps, token_mask
from skip_exp.attribution.target import true_label
from skip_exp.data.batches import Batch
from skip_exp.data.module import TextDataModule
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.utils.timing import best_device

TITLE = "Attribution"
ABOUT = (
    "Relevance of every neuron of minilm (FFN units and heads of all layers), fp32, train rows "
    "sorted by length. Theirs: plain forward passes of the same rows, or Captum's "
    "`LayerGradientXActivation` (all layers at once) and `LayerIntegratedGradients` (baseline "
    "zero, its defaults). Ratio: our time over that of the forward passes; against Captum, how "
    "many times faster, and how many times less memory at the peak. Difference: the largest one, "
    "relative to the largest score."
)
TARGET = "probability"
SUMMED: dict[str, Any] = {"tokens": "sum", "sign": "absolute", "target": TARGET}
STEPS = 32  # of integrated gradients
SAMPLES, IG_SAMPLES, BATCH = 256, 4, 32
Products = Callable[[Batch], Iterable[tuple[Tap, Tensor]]]


def measure(options: Options) -> list[Row]:
    """Rows of activation x gradient and of integrated gradients."""
    task = load_task()
    model, module = prompted(minilm().model).to(best_device()), TextDataModule(task, BATCH, seed=1)
    name, rows = task_name(task), []
    samples = (32, 1) if options.quick else (SAMPLES, IG_SAMPLES)
    for method, number in zip((gradients, integrated), samples, strict=True):
        batches = [
            {key: x.to(best_device()) for key, x in batch.items()}
            for batch in module.attribution_batches(number, BATCH, 1)
        ]
        rows += method(model, batches, f"{name}, {number} samples", options)
    return rows


def gradients(
    model: SoftPromptModel, batches: Sequence[Batch], setting: str, options: Options
) -> list[Row]:
    """Activation x gradient, a plain forward pass and Captum in turns."""
    scores: dict[str, Relevance] = {}  # of the last round, compared once the time was taken

    def ours() -> None:
        scores["ours"] = activation_gradient.scores(model, batches, **SUMMED)

    def theirs() -> None:
        scores["theirs"] = captum_gradients(model, batches)

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            logits(model, batch)

    calls, reach = [ours, forward, theirs], Reach(high=3.0)
    times = side_by_side(calls, seconds=options.seconds(20.0), inference=False)
    name = "activation x gradient"
    return [
        compare(f"{name}, in forward passes", setting, times, cost=True, reach=reach),
        compare(f"{name} against Captum", setting, times, theirs=2),
        difference_row(name, setting, **scores),
    ]


def integrated(
    model: SoftPromptModel, batches: Sequence[Batch], setting: str, options: Options
) -> list[Row]:
    """Integrated gradients of every layer, in turns with Captum; scores and memory beside it."""
    steps, scores = 2 if options.quick else STEPS, dict[str, Relevance]()

    def ours(steps: int = steps) -> None:
        scores["ours"] = integrated_gradients.scores(model, batches, steps=steps, **SUMMED)

    def theirs(steps: int = steps) -> None:
        scores["theirs"] = captum_integrated(model, batches, steps)

    ours(1)  # to warm up: a whole round would take a minute
    theirs(1)
    times = side_by_side([ours, theirs], seconds=0.0, least=2, warm_up=False, inference=False)
    name, setting = "integrated gradients", f"{setting}, {steps} steps"
    layers, faster = len(model.attentions()), Reach(low=1.5)
    our_peak, their_peak = peak_memory(ours), peak_memory(theirs)
    ratio = their_peak / our_peak if our_peak else None
    figures = (our_peak, their_peak, "MB", ratio)
    return [
        compare(f"{name}, per layer", setting, times, of=layers, reach=faster),
        difference_row(name, setting, **scores),
        Row(f"{name}, peak memory", setting, *figures, reach=Reach(low=1.0)),
    ]


def difference_row(name: str, setting: str, ours: Relevance, theirs: Relevance) -> Row:
    reach = Reach(high=1e-4, of="ours")
    return Row(f"{name}, difference", setting, difference(ours, theirs), reach=reach)


def difference(ours: Relevance, theirs: Relevance) -> float:
    """The largest difference of two scores of a neuron, relative to the largest score."""
    largest = max(float(scores.abs().max()) for scores in theirs.values())
    return max(float((ours[site] - theirs[site]).abs().max()) for site in theirs) / largest


def captum(model: SoftPromptModel, batches: Sequence[Batch], products: Products) -> Relevance:
    """What a method of ours gives, from ``products`` of a batch: a tap and its scores [R, T, n]."""
    totals, how = Totals(model), (SUMMED["tokens"], SUMMED["sign"])
    for batch in batches:
        for tap, product in products(batch):
            mask = token_mask(model, tap, batch["attention_mask"])
            scores = tap.view(product.detach())
            totals.add_positions(tap, scores, len(batch["labels"]), mask, *how)
    return totals.means(sum(len(batch["labels"]) for batch in batches))


def captum_gradients(model: SoftPromptModel, batches: Sequence[Batch]) -> Relevance:
    """What ``activation_gradient.scores`` gives, by Captum. Raises SkipError without Captum."""
    method = extra("captum.attr").LayerGradientXActivation

    def products(batch: Batch) -> Iterator[tuple[Tap, Tensor]]:
        found = list(taps(model).values())
        gradient = method(probability(model, batch), [tap.linear for tap in found])
        scores = gradient.attribute(tuple(batch.values()), attribute_to_layer_input=True)
        yield from zip(found, scores, strict=True)

    on_graph = next(m for m in model.backbone.modules() if isinstance(m, torch.nn.LayerNorm)).weight
    on_graph.requires_grad_(True)  # the embeddings' norm: puts the first layer on the graph, too
    try:
        return captum(model, batches, products)
    finally:
        on_graph.requires_grad_(False)


def captum_integrated(model: SoftPromptModel, batches: Sequence[Batch], steps: int) -> Relevance:
    """What ``integrated_gradients.scores`` gives, by Captum. Raises SkipError without Captum.

    The input that Captum wants is a factor on the activation: of one, and of zero as the baseline.
    """
    method = extra("captum.attr").LayerIntegratedGradients

    def products(batch: Batch) -> Iterator[tuple[Tap, Tensor]]:
        plain, factors = probability(model, batch), dict[str, Tensor]()

        def scaled(factor: Tensor, *inputs: Tensor) -> Tensor:
            factors["now"] = factor[:, :, None]
            return plain(*inputs)

        one = torch.ones(len(batch["labels"]), 1, device=batch["labels"].device)
        rows = tuple(batch.values())
        options = {"n_steps": steps, "attribute_to_layer_input": True}
        for tap in taps(model).values():
            handle = tap.hook(lambda x: x * factors["now"])  # before Captum's own hook
            try:
                integral = method(scaled, tap.linear)
                yield tap, integral.attribute(one, 0 * one, None, rows, **options)
            finally:
                handle.remove()

    return captum(model, batches, products)


def probability(model: SoftPromptModel, batch: Batch) -> Callable[..., Tensor]:
    """The probability of the true label as a function of the batch's tensors."""

    def of(*tensors: Tensor) -> Tensor:
        rows = dict(zip(batch, tensors, strict=True))
        return true_label(logits(model, rows), rows["labels"], TARGET)

    return of
