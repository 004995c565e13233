"""Recovery sublayer by sublayer: exact where it can be, never for the worse, no labels."""

import pytest
import torch

from skip_exp.models.families.base import FfnBlock
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import sublayer
from skip_exp.pruning.reconstruct.changes import Changes, apply, linears
from skip_exp.pruning.reconstruct.streams import dense_streams
from skip_exp.pruning.surgery import cut
from tests.helpers.tiny import KINDS, tiny_batch, tiny_model


def logits(model: SoftPromptModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**{k: v for k, v in batch.items() if k != "labels"})


def some_of_all(model: SoftPromptModel) -> Keep:
    names = [block.name for block in model.blocks()]
    keep = {n: torch.arange(6) for n in names if n.endswith("ffn")}
    return keep | {f"{n}.heads": torch.tensor([1]) for n in names if not n.endswith("ffn")}


def changed(model: SoftPromptModel, keep: Keep, found: Changes) -> SoftPromptModel:
    smaller = cut(model, keep)
    apply(smaller, found)
    return smaller


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_a_copy_of_what_is_kept_is_made_up_for_exactly(kind: str) -> None:
    model, batch = tiny_model(kind), tiny_batch(kind, rows=8)
    block = next(b for b in model.blocks() if isinstance(b, FfnBlock))
    for up in block.up:
        up.weight[12:] = up.weight[:8]
        if up.bias is not None:
            up.bias[12:] = up.bias[:8]
    keep = {block.name: torch.arange(12)}
    found = sublayer.changes(model, keep, [batch], rank=8, steps=0, ridge=1e-9)
    expected, plain = logits(model, batch), logits(cut(model, keep), batch)
    assert torch.allclose(logits(changed(model, keep, found), batch), expected, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-3)


def errors(model: SoftPromptModel, smaller: SoftPromptModel, batch: dict) -> dict[str, float]:
    wanted = dense_streams(model, [block.name for block in model.blocks()], [batch])[0]
    with torch.no_grad():
        return {n: float(e) for n, e in sublayer.errors(smaller, batch, wanted).items()}


@pytest.mark.parametrize("prompt", ["prefix", "input"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_sublayer_is_further_off_than_without(kind: str, prompt: str) -> None:
    readout = "seq2seq" if kind.startswith("t5") else "head"
    model, batch = tiny_model(kind, prompt, readout), tiny_batch(kind, rows=8)
    keep = some_of_all(model)
    last = model.blocks()[-1].name
    keep[last] = torch.tensor([], dtype=torch.long)  # all gone: its bias is left
    found = sublayer.changes(model, keep, [batch], rank=4, steps=0)
    before = errors(model, cut(model, keep), batch)
    after = errors(model, changed(model, keep, found), batch)
    assert before.keys() == after.keys() == {block.name for block in model.blocks()}
    assert all(after[name] < before[name] for name in before)
    assert f"{last}.bias" in found and f"{last}.left" not in found


def test_steps_of_all_linears_come_nearer_than_the_closed_form() -> None:
    model, batch = tiny_model("bert"), tiny_batch("bert", rows=8)
    keep = some_of_all(model)
    closed, trained = (
        sublayer.changes(model, keep, [batch], rank=4, steps=steps) for steps in (0, 60)
    )
    totals = [
        sum(errors(model, changed(model, keep, found), batch).values())
        for found in (closed, trained)
    ]
    assert totals[1] < 0.95 * totals[0]
    assert {k for k in closed if k.endswith("left")} == {f"{b.name}.left" for b in model.blocks()}
    assert {k for k in trained if k.endswith("left")} == {f"{name}.left" for name in linears(model)}


def test_padding_and_labels_do_not_count_and_the_model_stays() -> None:
    model, batch = tiny_model("bert"), tiny_batch("bert")
    keep = some_of_all(model)
    before = {name: p.clone() for name, p in model.named_parameters()}
    needs = {name: p.requires_grad for name, p in model.named_parameters()}
    wider = {k: torch.nn.functional.pad(v, (0, 3)) if v.dim() == 2 else v for k, v in batch.items()}
    wider["labels"] = 1 - batch["labels"].clamp(0, 1)
    found, again = (sublayer.changes(model, keep, [b], rank=2, steps=0) for b in (batch, wider))
    assert found.keys() == again.keys()
    one, two = (changed(model, keep, changes) for changes in (found, again))
    assert torch.allclose(logits(one, batch), logits(two, batch), atol=1e-4)
    assert errors(model, one, wider) == pytest.approx(errors(model, one, batch), rel=1e-3)
    sublayer.changes(model, keep, [batch], rank=2, steps=2)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.requires_grad == needs[name]
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_a_change_of_a_linear_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"the backbone has no encoder\.0\.self\.w\.bias"):
        apply(tiny_model(), {"encoder.0.self.w.bias": torch.zeros(24)})
