"""Sublayers are timed as they run in the model: on their own inputs, at every kind of width."""

import time
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from skip_exp.models.backbones import load_backbone
from skip_exp.models.cost import random_batch
from skip_exp.models.prompts import PrefixPrompt
from skip_exp.models.readouts import readout_class
from skip_exp.models.sites import Keep, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning import latency as measuring
from skip_exp.pruning.latency import measure, widths
from skip_exp.pruning.surgery import cut
from skip_exp.utils import timing
from tests.helpers.tiny import READOUT, tiny_model
from tests.helpers.toy import rarely


def built(kind: str) -> SoftPromptModel:
    return tiny_model(kind, readout=READOUT[kind])


@pytest.mark.parametrize("kind", ["bert", *rarely("modernbert"), "t5_gated"])
def test_measuring_leaves_the_model_alone(kind: str) -> None:
    model = built(kind)
    inputs = random_batch(model, 2, 8)
    with torch.no_grad():
        before = model(**inputs)
        table = measure(model, inputs)
        assert torch.equal(model(**inputs), before)
    assert not any(module._forward_pre_hooks for module in model.modules())
    sites = {site: size for shape in model.shapes() for site, size in shape.sites().items()}
    assert table.sites.keys() == sites.keys()
    for site, curve in table.sites.items():
        assert curve.widths[0] == 0 and curve.widths[-1] == sites[site][-1]
        assert curve.seconds == sorted(curve.seconds)
    ends = {site.sublayer: table.sites[site].seconds[-1] for site in sites}
    assert all(table.sites[site].seconds[-1] == ends[site.sublayer] for site in sites)
    assert table.total >= sum(ends.values())


@pytest.mark.parametrize("kind", ["bert", "t5_gated"])
def test_a_sublayer_takes_what_it_takes_in_its_place(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that knows: a pass takes two seconds, and each sublayer what its place costs."""
    cost = {"encoder.self": 8.0, "encoder.ffn": 3.0, "decoder.self": 0.25, "decoder.cross": 1.5}

    def seconds(model: SoftPromptModel) -> float:
        whole = {"ffn": 20, "heads": 3, "qk": 8, "vo": 8}
        taken = 2.0
        for shape in model.shapes():
            part = shape.units / whole[shape.whole]
            if shape.whole == "heads":  # dims of either kind make up a quarter of it
                dims = (shape.qk / whole["qk"] + shape.vo / whole["vo"]) / 4
                part *= (0.5 + dims) if shape.vo else 0.0
            taken += part * cost.get(f"{shape.name.stack}.{shape.name.part}", 0.5)
        return taken

    def interleave(calls: list[partial], **_: Any) -> list[list[float]]:
        assert all(call.keywords["input_ids"].shape == (2, 8) for call in calls)
        return [[seconds(call.func)] for call in calls]

    model = built(kind)
    monkeypatch.setattr(measuring, "interleave", interleave)
    table = measure(model, random_batch(model, 2, 8))
    assert (table.total, table.rest) == (seconds(model), pytest.approx(2))
    generator = torch.Generator().manual_seed(0)
    sizes = site_sizes(model.shapes())
    for sites in (["ffn", "heads"], ["qk", "vo"], ["ffn", "heads", "qk", "vo"]):
        keep = {}
        for site, size in sizes.items():
            width = int(torch.randint(1, size[-1] + 1, (1,), generator=generator))
            if site.kind in sites:
                keep[site] = torch.arange(width).expand(*size[:-1], width)
        smaller = cut(model, keep)
        assert table.speedup(widths(keep)) == pytest.approx(seconds(model) / seconds(smaller))


def test_what_is_measured_of_a_large_backbone() -> None:
    assert measuring._points("ffn", 3072) == [0, 512, 1024, 1536, 2048, 2560, 3072]
    assert measuring._points("heads", 12) == [0, 2, 4, 6, 8, 10, 12]
    assert measuring._points("qk", 64) == [0, 1, 16, 32, 48, 64]
    assert measuring._points("vo", 1) == [0, 1]


def offline(backbone: str) -> SoftPromptModel:
    """The untrained model that a job on ``backbone`` starts with."""
    family = {"minilm": "bert", "roberta_mini": "roberta", "t5_mini": "t5"}[backbone]
    readout = "seq2seq" if family == "t5" else "head"
    loaded = load_backbone(backbone, f"embedded:{backbone}", family, readout)
    ids = torch.arange(1000, 1016)
    prompt = PrefixPrompt.build(loaded.model, loaded.family, 16, ids)
    words = ("bad", "good")
    head = readout_class(readout).build(loaded.model, loaded.tokenizer, 2, words, "mean")
    return SoftPromptModel(loaded.model, loaded.family, prompt, head).eval()


def keeps(model: SoftPromptModel) -> dict[str, Keep]:
    """Cuts that a prediction must get right: of every kind of neuron, of a whole stack."""
    sizes = site_sizes(model.shapes())

    def first(part: float, *kinds: str, stack: str = "") -> Keep:
        return {
            site: torch.arange(round(part * size[-1])).expand(*size[:-1], -1)
            for site, size in sizes.items()
            if site.kind in kinds and site.sublayer.stack.startswith(stack)
        }

    found = {
        "half of units and heads": first(0.5, "ffn", "heads"),
        "nine tenths of them": first(0.1, "ffn", "heads"),
        "some of everything": first(0.6, "ffn", "heads") | first(0.5, "qk") | first(0.75, "vo"),
        "all attention by its dims": first(0.0, "qk", "vo"),
    }
    if decoder := first(0.0, "ffn", "heads", stack="decoder"):
        found["the decoder"] = decoder
    return found


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["minilm", "roberta_mini", "t5_mini"])
def test_what_is_predicted_is_measured(
    backbone: str, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time of this thread alone, as other work may go on; found within a tenth."""
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=time.thread_time))
    model = offline(backbone)
    inputs = random_batch(model, 8, 64)
    table = measure(model, inputs)
    for name, keep in keeps(model).items():
        with torch.inference_mode():
            passes = [partial(m, **inputs) for m in (model, cut(model, keep))]
            dense, smaller = measuring._median(passes, torch.device("cpu"))
        predicted = table.speedup(widths(keep))
        assert predicted == pytest.approx(dense / smaller, rel=0.25), name
