"""The promises of the surgery, over random models, keeps, paddings and seeds of every family."""

import random

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from skip_exp.models.families import FAMILIES
from skip_exp.models.family import causal_mask, key_mask
from skip_exp.models.prompts import InputPrompt, PrefixPrompt
from skip_exp.models.readouts import ClassifierReadout, Encoded
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, shapes_of, site_sizes
from tests.helpers.masked import zero
from tests.helpers.tiny import (
    ENCODERS,
    KINDS,
    READOUT,
    tiny_backbone,
    tiny_batch,
    tiny_inputs,
    tiny_model,
)

CASES = 200  # per family, a twentieth of them in the normal run


def random_keep(model: SoftPromptModel, rng: random.Random) -> dict[str, Tensor]:
    """Any subset of any site; now and then nothing at all, or a site that is not mentioned."""
    keep = {}

    def subset(size: int) -> Tensor:
        return torch.tensor(sorted(rng.sample(range(size), rng.randint(0, size))), dtype=torch.long)

    for block in model.blocks():
        if block.attention is not None:
            if rng.random() < 0.7:
                keep[block.name.site] = subset(block.attention.heads)
        elif rng.random() < 0.8:
            keep[block.name] = subset(block.output.in_features)
    return keep


def loss_and_gradients(
    model: SoftPromptModel, batch: dict[str, Tensor]
) -> tuple[Tensor, list[Tensor]]:
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    logits = model(**inputs)
    loss = nn.functional.cross_entropy(logits, batch["labels"])
    parameters = list(model.prompt.parameters())
    if not loss.requires_grad:  # every head that read the prompt is gone
        return logits, [torch.zeros_like(p) for p in parameters]
    return logits.detach(), list(
        torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    )


def case(kind: str, seed: int) -> tuple[SoftPromptModel, dict[str, Tensor], dict[str, Tensor]]:
    rng = random.Random(seed)
    readout = rng.choice(["head", "mlm"] if not kind.startswith("t5") else ["seq2seq"])
    model = tiny_model(kind, rng.choice(["input", "prefix"]), readout, seed=seed % 7)
    model.set_attention(rng.choice(["sdpa", "eager"]))
    return model, tiny_batch(kind, rows=rng.randint(1, 4), seed=seed), random_keep(model, rng)


@pytest.mark.core
@pytest.mark.parametrize(
    "chunk", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 20))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_cut_equals_zeroed_in_logits_and_gradients(kind: str, chunk: int) -> None:
    for seed in range(chunk * CASES // 20, (chunk + 1) * CASES // 20):
        model, batch, keep = case(kind, seed)
        smaller = cut(model, keep)
        expected, gradients = loss_and_gradients(zero(model, keep), batch)
        logits, found = loss_and_gradients(smaller, batch)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5, msg=f"seed {seed}")
        if isinstance(model.prompt, PrefixPrompt):
            kept = [keep.get(name.site, torch.arange(3)) for name in model.prompt.names * 2]
            gradients = [g[:, heads] for g, heads in zip(gradients, kept, strict=True)]
        for ours, theirs in zip(found, gradients, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4, msg=f"seed {seed}")


class NoEmptyProducts(TorchDispatchMode):
    """Refuses matrix products with a dimension of zero."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
            tensors = [x for x in args if isinstance(x, Tensor)]
            assert all(x.numel() for x in tensors), [tuple(x.shape) for x in tensors]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_multiplied_where_nothing_is_left(kind: str) -> None:
    model = tiny_model(kind, readout=READOUT[kind])
    keep = {site: torch.arange(0) for site in site_sizes(shapes_of(model))}
    smaller, batch = cut(model, keep), tiny_inputs(kind)
    with torch.no_grad():
        expected = zero(model, keep)(**batch)
        with NoEmptyProducts():
            found = smaller(**batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def without_prompt(model: SoftPromptModel) -> SoftPromptModel:
    """The wrapper's own path with an empty prompt."""
    width = model.backbone.get_input_embeddings().weight.shape[1]
    model.prompt = InputPrompt(torch.empty(0, width))
    return model


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("everything", [False, True])
def test_keeping_everything_is_the_hugging_face_model(kind: str, everything: bool) -> None:
    model, batch = without_prompt(tiny_model(kind, "input", "mlm")), tiny_inputs(kind)
    if everything:
        sizes = site_sizes(shapes_of(model))
        model = cut(model, {site: torch.arange(size) for site, size in sizes.items()})
    ids = model.readout.text_ids(batch["input_ids"])
    mask = model.encoder_mask(batch["attention_mask"])
    types = batch.get("token_type_ids")
    if types is not None:
        types = torch.cat([torch.zeros_like(types[:, :1]), types], 1)
    extra = {} if types is None else {"token_type_ids": types}
    with torch.no_grad():
        expected = tiny_backbone(kind)(input_ids=ids, attention_mask=mask, **extra).logits
        found = model(**batch)
    expected = expected[:, 1, model.readout.word_ids]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["t5", "t5_gated"])
def test_t5_is_the_hugging_face_model(kind: str) -> None:
    """Label words of one and of two pieces, scored in one pass as the library scores them."""
    model, batch = without_prompt(tiny_model(kind, "input", "seq2seq")), tiny_batch(kind)
    labels = batch.pop("labels")
    untouched = tiny_backbone(kind)
    words = [[7], [8, 9], [10, 11]]
    with torch.no_grad():
        found = model(**batch)
        for c, word in enumerate(words):
            start = torch.tensor([[0, *word[:-1]]]).expand(len(labels), -1)
            logits = untouched(**batch, decoder_input_ids=start).logits.log_softmax(-1)
            expected = sum(logits[:, i, piece] for i, piece in enumerate(word))
            torch.testing.assert_close(found[:, c], expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["input", "prefix"])
def test_padding_and_batch_order_change_no_row(kind: str, prompt: str) -> None:
    model, batch = tiny_model(kind, prompt, READOUT[kind]), tiny_inputs(kind, rows=5)
    with torch.no_grad():
        together = model(**batch)
        order = torch.tensor([3, 0, 4, 2, 1])
        shuffled = model(**{k: v[order] for k, v in batch.items()})
        torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=1e-5)
        for i, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            alone = model(**{k: v[i : i + 1, :length] for k, v in batch.items()})
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


def test_input_prompt_enters_at_the_word_embeddings() -> None:
    """Position, type and LayerNorm apply once; the mean is over the text, not over the prompt."""
    model, batch = tiny_model("bert", "input", "head"), tiny_inputs("bert")
    bert = tiny_backbone("bert").bert
    words = bert.embeddings.word_embeddings(batch["input_ids"])
    soft = model.prompt.embedding.detach().expand(len(words), -1, -1)
    ones = torch.ones(len(words), 4, dtype=torch.long)
    with torch.no_grad():
        hidden = bert(
            inputs_embeds=torch.cat([soft, words], 1),
            attention_mask=torch.cat([ones, batch["attention_mask"]], 1),
            token_type_ids=torch.cat([ones * 0, batch["token_type_ids"]], 1),
        ).last_hidden_state[:, 4:]
        weight = batch["attention_mask"][..., None].float()
        expected = model.readout.linear((hidden * weight).sum(1) / weight.sum(1))
        torch.testing.assert_close(model(**batch), expected, atol=1e-5, rtol=1e-5)


def test_t5_input_prompt_is_pefts_prompt_tuning() -> None:
    peft = pytest.importorskip("peft")
    model, batch = tiny_model("t5", "input", "seq2seq", length=4), tiny_batch("t5")
    labels = batch.pop("labels")
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=4,
        num_transformer_submodules=1,
        token_dim=24,
        num_attention_heads=3,
        num_layers=2,
    )
    theirs = peft.get_peft_model(tiny_backbone("t5"), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(model.prompt.embedding)
        start = torch.zeros(len(labels), 1, dtype=torch.long)
        logits = theirs(**batch, decoder_input_ids=start).logits[:, 0].log_softmax(-1)
        torch.testing.assert_close(model(**batch)[:, 0], logits[:, 7], atol=1e-5, rtol=1e-5)


def test_a_prefix_of_real_keys_is_the_text_itself() -> None:
    """A prefix started from tokens equals putting these tokens before the text, in layer 0."""
    model = tiny_model("t5", "prefix", "seq2seq")
    attention = model.attentions()["encoder.0.self"]
    ids = torch.randint(12, 50, (4,), generator=torch.Generator().manual_seed(0))
    normed = model.backbone.encoder.block[0].layer[0].layer_norm(model.backbone.shared(ids))
    expected = attention.k(normed).view(4, 3, 8)
    torch.testing.assert_close(model.prompt.keys[0], expected)


def test_masks() -> None:
    assert key_mask(torch.ones(2, 3), 4) is None
    mask = key_mask(torch.tensor([[1, 1, 0]]), 2)
    assert mask is not None
    assert mask.tolist() == [[[[0.0, 0.0, 0.0, 0.0, -1e4]]]]
    assert key_mask(torch.ones(2, 3, device="meta"), 1) is not None  # to look would be to wait
    causal = causal_mask(2, torch.device("cpu"))
    assert causal is not None
    assert causal.tolist() == [[[[0.0, -1e4], [0.0, 0.0]]]]
    assert causal_mask(1, torch.device("cpu")) is None


def test_a_trained_readout_is_not_rounded_in_a_bf16_fit() -> None:
    model = tiny_model("bert")
    with torch.autocast("cpu", torch.bfloat16):
        assert model(**tiny_inputs()).dtype == torch.float32
        layers = nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3)
        encoded = Encoded(torch.ones(2, 5, 32, dtype=torch.bfloat16), torch.ones(2, 5), 0)
        classifier = ClassifierReadout(*layers)
        found = classifier.logits(model.backbone, FAMILIES["bert"], encoded)
    assert found.dtype == torch.float32
    again = classifier.logits(model.backbone, FAMILIES["bert"], encoded)
    assert found.detach().tolist() == again.tolist()
