"""What every method owes: all sites of every model, no trace, no dependence on the batching."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_method
from omegaconf import OmegaConf

from skip_exp.attribution import random
from skip_exp.callbacks.between import check_relevance
from skip_exp.config import schema as config
from skip_exp.config.checks import method_options
from skip_exp.errors import ConfigError
from skip_exp.models.family import Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from tests.helpers.tiny import KINDS, tiny_batch, tiny_model
from tests.helpers.toy import rarely

FILES = {file.stem: file for file in (config.conf_dir() / "attribution").glob("*.yaml")}
METHODS = sorted(FILES)
WITH_DATA = [name for name in METHODS if name not in ("random", "magnitude", "depth")]
CASES = [  # every pair of two of them
    (name, kind, ("input", "prefix")[(i + j) % 2])
    for i, name in enumerate(METHODS)
    for j, kind in enumerate(KINDS)
]
OF_PIPELINE = {"_target_", "samples"}  # not the method's


def method(name: str) -> Callable[..., dict[str, torch.Tensor]]:
    """The method with the options of its file."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(FILES[name]))
    options = {key: value for key, value in settings.items() if key not in OF_PIPELINE}
    options |= options.pop("options", {})
    function = get_method(settings["_target_"])
    return lambda model, batches: function(model, batches, **options)


def model_of(kind: str, prompt: str) -> SoftPromptModel:
    readout = "seq2seq" if kind.startswith("t5") else "mlm" if prompt == "input" else "head"
    return tiny_model(kind, prompt, readout)


def state(model: SoftPromptModel) -> dict[str, Any]:
    return {
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad for p in model.parameters()],
        "same": [(id(p), p._version) for p in model.parameters()],
    }


@pytest.mark.parametrize(("name", "kind", "prompt"), CASES)
def test_every_site_of_every_model(name: str, kind: str, prompt: str) -> None:
    model, batch = model_of(kind, prompt), tiny_batch(kind)
    before = state(model)
    found = method(name)(model, [batch])
    assert state(model) == before
    expected = random.scores(model, [])
    assert {s: x.shape for s, x in found.items()} == {s: x.shape for s, x in expected.items()}
    for site, scores in found.items():
        assert scores.isfinite().all() and not scores.requires_grad
        assert scores.dtype == torch.float32 and scores.device.type == "cpu"
        assert scores.any() or site.startswith("decoder")


@pytest.mark.parametrize("name", WITH_DATA)
def test_the_model_is_left_as_it_was_after_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = tiny_model(), tiny_batch()
    before = state(model)

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(model.readout, "logits", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        method(name)(model, [batch])
    assert state(model) == before


@pytest.mark.parametrize("kind", ["bert", *rarely("modernbert"), "t5_gated"])
@pytest.mark.parametrize("name", WITH_DATA)
def test_padding_and_batch_order_change_no_relevance(name: str, kind: str) -> None:
    model, batch = model_of(kind, "prefix"), tiny_batch(kind, rows=6)
    together = method(name)(model, [batch])
    rows = [
        {k: v[i : i + 1, : int(n)] if v.dim() == 2 else v[i : i + 1] for k, v in batch.items()}
        for i, n in reversed(list(enumerate(batch["attention_mask"].sum(1))))
    ]
    alone = method(name)(model, rows)
    assert together.keys() == alone.keys()
    for site, expected in together.items():
        scale = float(expected.abs().max()) + 1e-12
        torch.testing.assert_close(alone[site] / scale, expected / scale, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_sublayers_that_were_cut_away_have_no_neurons_and_stop_nothing(name: str) -> None:
    none = torch.empty(0, dtype=torch.long)
    keep = {"encoder.0.ffn": none, "encoder.0.self.heads": none}
    model = cut(tiny_model(), keep)
    found = method(name)(model, [tiny_batch()])
    shapes = {site: tuple(x.shape) for site, x in found.items()}
    assert shapes["encoder.0.ffn"] == shapes["encoder.0.self.heads"] == (0,)
    assert found["encoder.1.ffn"].any()


def test_random_depends_on_its_seed_alone() -> None:
    model = tiny_model()
    first, again = (random.scores(model, [], seed=3) for _ in range(2))
    other = random.scores(model, [], seed=4)
    assert all(torch.equal(first[s], again[s]) for s in first)
    assert not torch.equal(first["encoder.0.ffn"], other["encoder.0.ffn"])


@pytest.mark.parametrize("name", METHODS)
def test_the_options_of_every_file_are_those_of_its_function(name: str) -> None:
    settings = OmegaConf.load(FILES[name])
    known = set(inspect.signature(get_method(settings._target_)).parameters)
    assert settings.keys() <= OF_PIPELINE | {"options"}
    # What can be set without a plus on the command line is all there is to set.
    assert known - {"model", "batches", "seed"} == set(settings.get("options", {}))
    for option in settings.get("options", {}):
        with pytest.raises(ConfigError, match=option):
            method_options(**{option: None})


SIZES = {Site("encoder.0.ffn"): 3, Site("encoder.0.self.heads"): 2}
GOOD = {"encoder.0.ffn": torch.tensor([1.0, 2, 3]), "encoder.0.self.heads": torch.ones(2)}


@pytest.mark.core
@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "NoneType"),
        (torch.zeros(3), "Tensor"),
        ({}, r"encoder\.0\.ffn: .*\[3\]"),
        (GOOD | {"encoder.0.self.heads": None}, r"self\.heads: .*\[2\]"),
        (GOOD | {"encoder.0.ffn": [1, 2, 3]}, r"ffn: .*list.*\[3\]"),
        (GOOD | {"encoder.0.self.heads": torch.ones(2, 2)}, r"heads: .*\[2, 2\].*\[2\]"),
        (GOOD | {"encoder.0.ffn": torch.tensor(1.0)}, r"\[\].*\[3\]"),
        (GOOD | {"encoder.0.ffn": torch.tensor([1, torch.nan, torch.inf])}, "ffn: 2 of 3"),
        (GOOD | {"encoder.9.ffn": torch.ones(3)}, r"encoder\.9\.ffn: .*encoder\.0\.ffn"),
        ({site: torch.zeros(size) for site, size in SIZES.items()}, "all 5 scores are 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_site_and_shape(found: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_relevance(found, SIZES)


@pytest.mark.core
def test_arrays_and_other_types_become_fp32() -> None:
    given = GOOD | {"encoder.0.ffn": np.array([1, 2, 3])}
    result = check_relevance(given, SIZES)
    assert result.keys() == SIZES.keys()
    assert result["encoder.0.ffn"].dtype == torch.float32
    assert result["encoder.0.ffn"].tolist() == [1, 2, 3]
