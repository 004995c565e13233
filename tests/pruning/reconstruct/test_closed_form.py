"""What was cut is made up for: exactly where that is possible, and never for the worse."""

import pytest
import torch

from skip_exp.attribution.observe import taps, token_mask
from skip_exp.config.prune import RECONSTRUCT
from skip_exp.models.readouts.seq2seq import Seq2SeqReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import closed_form, streams
from skip_exp.pruning.reconstruct.changes import apply
from skip_exp.pruning.reconstruct.closed_form import Moments, solve
from skip_exp.pruning.reconstruct.compute import changes
from skip_exp.pruning.reconstruct.streams import behind
from skip_exp.pruning.surgery import cut
from tests.helpers.tiny import KINDS, tiny_batch, tiny_model

KEEP = torch.arange(12)  # of 20 units


def first_ffn(model: SoftPromptModel) -> str:
    return next(block.name for block in model.blocks() if block.name.endswith("ffn"))


def ffn_of(model: SoftPromptModel) -> object:
    return next(block for block in model.blocks() if block.name.endswith("ffn"))


def logits(model: SoftPromptModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**{k: v for k, v in batch.items() if k != "labels"})


def mended(model: SoftPromptModel, keep: dict, batches: list, **how: object) -> SoftPromptModel:
    smaller = cut(model, keep)
    apply(smaller, changes(model, keep, batches, **how))  # type: ignore[arg-type]
    return smaller


def test_by_hand() -> None:
    # x2 = 3 x1 + 1 with x1 of mean 2 and variance 4; the weights of both are 5 and 7.
    moments = Moments(
        torch.tensor([2.0, 7.0]).double(), torch.tensor([[4.0, 12.0], [12.0, 36.0]]).double()
    )
    weight, kept = torch.tensor([[5.0, 7.0]]).double(), torch.tensor([0])
    assert solve(weight, kept, moments, rank=0, ridge=0)["bias"].tolist() == [49.0]
    found = solve(weight, kept, moments, rank=1, ridge=0)
    assert (found["left"] @ found["right"]).item() == pytest.approx(21)  # 7 * 3
    assert found["bias"].item() == pytest.approx(7)  # 7 * 1


def test_everything_gone_leaves_the_mean() -> None:
    moments = Moments(torch.tensor([2.0, 7.0]), torch.eye(2))
    found = solve(
        torch.tensor([[5.0, 7.0]]), torch.tensor([], dtype=torch.long), moments, rank=4, ridge=0
    )
    assert found.keys() == {"bias"} and found["bias"].tolist() == [59.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["mean", "least_squares"])
def test_exact_where_the_removed_units_are_constant(kind: str, how: str) -> None:
    model, batch = tiny_model(kind), tiny_batch(kind)
    block = ffn_of(model)
    if kind.startswith("t5"):  # no biases: a constant unit is a dead one, so let one head die
        for up in block.up:  # type: ignore[attr-defined]
            up.weight[12:] = 0
    else:
        block.up[0].weight[12:] = 0  # type: ignore[attr-defined]
    keep = {first_ffn(model): KEEP}
    smaller = mended(model, keep, [batch], reconstruct=how)
    assert torch.allclose(logits(smaller, batch), logits(model, batch), atol=1e-5)
    if not kind.startswith("t5"):
        assert not torch.allclose(logits(cut(model, keep), batch), logits(model, batch), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_where_the_removed_units_depend_on_kept_ones(kind: str) -> None:
    model, batch = tiny_model(kind), tiny_batch(kind, rows=8)
    for up in ffn_of(model).up:  # type: ignore[attr-defined]
        up.weight[12:] = up.weight[:8]
        if up.bias is not None:
            up.bias[12:] = up.bias[:8]
    keep = {first_ffn(model): KEEP}
    smaller = cut(model, keep)
    apply(smaller, closed_form.changes(model, keep, [batch], second=True, rank=8, ridge=1e-9))
    assert torch.allclose(logits(smaller, batch), logits(model, batch), atol=1e-4)
    worse = mended(model, keep, [batch], reconstruct="mean")
    assert not torch.allclose(logits(worse, batch), logits(model, batch), atol=1e-3)


@pytest.mark.parametrize("prompt", ["prefix", "input"])
@pytest.mark.parametrize("kind", KINDS)
def test_heads_and_units_of_every_sublayer(kind: str, prompt: str) -> None:
    """Each sublayer's own error falls; whole sublayers may be gone."""
    readout = "seq2seq" if kind.startswith("t5") else "head"
    model, batch = tiny_model(kind, prompt, readout), tiny_batch(kind, rows=8)
    names = [block.name for block in model.blocks()]
    keep = {n: torch.arange(6) for n in names if n.endswith("ffn")}
    keep |= {f"{n}.heads": torch.tensor([1]) for n in names if not n.endswith("ffn")}
    keep[names[-1]] = torch.tensor([], dtype=torch.long)
    found = changes(model, keep, [batch], reconstruct="least_squares", rank=4)
    assert {key.rpartition(".")[0] for key in found} == set(names)
    smaller = cut(model, keep)
    apply(smaller, found)
    assert logits(smaller, batch).isfinite().all()
    assert f"{names[-1]}.left" not in found


@pytest.mark.parametrize("kind", ["t5", "t5_gated"])
def test_a_decoder_step_that_all_texts_share(kind: str) -> None:
    """One label word each: what enters the first decoder layers never varies."""
    model = tiny_model(kind, "prefix", "seq2seq", labels=2)
    model.readout = Seq2SeqReadout([[7], [8]], start_id=0)
    names = [block.name for block in model.blocks()]
    keep = {n: torch.arange(12) for n in names if n.endswith("ffn")}
    keep |= {f"{n}.heads": torch.tensor([0, 1]) for n in names if not n.endswith("ffn")}
    batches = [tiny_batch(kind, rows=8, labels=2, seed=seed) for seed in range(2)]
    found = changes(model, keep, batches, reconstruct="least_squares", rank=4)
    shared = {part: found[f"decoder.0.self.{part}"] for part in ("left", "right", "bias")}
    assert (shared["left"] @ shared["right"]).abs().max() < 1e-3  # only the mean tells of it
    only_mean = changes(model, keep, batches, reconstruct="mean")["decoder.0.self.bias"]
    assert torch.allclose(shared["bias"], only_mean, atol=1e-3)
    smaller = cut(model, keep)
    apply(smaller, found)
    assert logits(smaller, batches[0]).isfinite().all()


def test_a_small_variance_beside_a_large_mean_is_seen() -> None:
    rows = 1e4 + torch.tensor([[-1.0, 2.0], [0.0, 0.0], [1.0, -2.0], [0.0, 0.0]])
    sums = closed_form.Sums(rows[:2], torch.ones(2), second=True)
    for part in (rows[:2], rows[2:]):
        sums.add(part, torch.ones(2))
    found = sums.moments()
    assert found.mean.tolist() == pytest.approx([1e4, 1e4], abs=1e-9)
    assert found.covariance.flatten().tolist() == pytest.approx([0.5, -1.0, -1.0, 2.0], abs=1e-9)


def test_padding_does_not_count_and_the_model_stays() -> None:
    model, batch = tiny_model("bert"), tiny_batch("bert")
    keep = {first_ffn(model): KEEP}
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = changes(model, keep, [batch], reconstruct="mean")
    wider = {k: torch.nn.functional.pad(v, (0, 3)) if v.dim() == 2 else v for k, v in batch.items()}
    again = changes(model, keep, [wider], reconstruct="mean")
    for key in found:
        assert torch.allclose(found[key], again[key], atol=1e-6)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_lost_nothing_is_left_alone() -> None:
    model = tiny_model("bert")
    keep = {first_ffn(model): torch.arange(20)}
    for how in RECONSTRUCT:
        assert changes(model, keep, [tiny_batch("bert")], reconstruct=how) == {}


def test_a_position_that_pads_a_label_word_tells_nothing() -> None:
    """Neither the closed form's moments nor the hidden states that others are fitted to have it."""
    model, batch = tiny_model("t5", "prefix", "seq2seq"), tiny_batch("t5")
    real = model.readout.real.bool()
    assert real.tolist() == [[True, False], [True, True], [True, True]]
    tap = next(tap for tap in taps(model).values() if tap.sublayer == "decoder.1.ffn")
    texts = len(batch["labels"])
    assert torch.equal(token_mask(model, tap, batch["attention_mask"]), real.repeat(texts, 1))
    block = next(block for block in model.blocks() if block.name == "decoder.1.ffn")
    _, hidden = behind(model, block, batch)
    assert torch.equal(streams.real(model, block, batch, hidden).bool(), real.repeat(texts, 1))


def test_t5_gains_a_bias_and_the_dense_model_does_not() -> None:
    model = tiny_model("t5")
    keep = {first_ffn(model): KEEP}
    smaller = mended(model, keep, [tiny_batch("t5")], reconstruct="mean")
    assert ffn_of(smaller).down.bias.shape == (24,)  # type: ignore[attr-defined]
    assert ffn_of(model).down.bias is None  # type: ignore[attr-defined]


def test_a_few_large_tokens_do_not_decide_for_all() -> None:
    output = torch.nn.Linear(1, 2, bias=False)
    output.requires_grad_(False)
    output.weight.copy_(torch.tensor([[3.0], [4.0]]))  # |W x| = 5 |x|
    rows = torch.tensor([[1.0], [1.0], [1.0], [7.0]])
    found = closed_form.token_weights(output, rows)
    assert found.tolist() == pytest.approx([1 / 50, 1 / 50, 1 / 50, 1 / (25 * 50)])
    mean = float((found * rows[:, 0]).sum() / found.sum())
    assert mean == pytest.approx(1.079, abs=1e-3)  # unweighted: 2.5
    assert closed_form.token_weights(output, torch.zeros(3, 1)).isfinite().all()
