"""Reading a model never changes it."""

from collections.abc import Callable
from typing import Any

import pytest

from skip_exp.models.cost import flops
from skip_exp.models.soft_prompt import SoftPromptModel
from tests.helpers.tiny import tiny_model

READS: tuple[Callable[[SoftPromptModel], Any], ...] = (
    lambda model: model.copy(),
    lambda model: model.on("meta"),
    lambda model: flops(model, 8),
)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5"])
def test_a_prefix_stays_in_place(kind: str) -> None:
    """Another thread may be asking the model at that time; a copy reads its own prompt only."""
    model = tiny_model(kind, "prefix")
    blocks = model.attention_blocks()
    model.prompt.install(blocks)
    before = {name: block.attention.prefix for name, block in blocks.items()}
    assert any(prefix is not None for prefix in before.values())
    for read in READS:
        read(model)
    after = {name: block.attention.prefix for name, block in model.attention_blocks().items()}
    assert all(after[name] is prefix for name, prefix in before.items())
    own = model.copy().attention_blocks().values()
    assert all(block.attention.prefix is None for block in own)


def test_a_model_is_built_in_eval_mode() -> None:
    model = tiny_model("bert", "prefix")
    model.backbone.train()
    built = SoftPromptModel(model.backbone, model.family, model.prompt, model.readout)
    assert not built.backbone.training
