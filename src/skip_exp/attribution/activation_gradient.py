"""Activation x gradient, the method of SKIP (Yang et al. 2024): A_i = h_i * dP(y|P,x)/dh_i.

``at=neurons`` scores what a cut removes: an FFN unit by what enters the down projection, a
value/output dim by the context that enters the output projection, a query/key dim by
q * dP/dq + k * dP/dk, a head by the sum over its value/output dims.

``at=linears`` scores the raw outputs of the linears, as the first author's later code: an FFN unit
by the output of the up projection before the activation function (both outputs, where gated),
query/key and value/output dims by the outputs of Q, K and V, a head by the sum over all of these.
The outputs of O and of the down projection are coordinates of the hidden state, which no structured
cut removes; they are not scored.

Cost: one forward and one backward pass without weight gradients, about two forward passes for all
sites together.
"""

from collections.abc import Iterable

from skip_exp.attribution.aggregate import Totals, check
from skip_exp.attribution.observe import products, taps, token_mask
from skip_exp.data.batches import Batch
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(
    model: SoftPromptModel,
    batches: Iterable[Batch],
    *,
    tokens: str = "max",
    sign: str = "signed",
    target: str = "probability",
    at: str = "neurons",
) -> Relevance:
    """Relevance of every neuron of every site.

    Args:
        model: the tuned model, on the device of the batches; left as it was.
        batches: ``input_ids``, ``attention_mask``, ``labels`` (and token types).
        tokens: aggregation over the real positions of a text: max, mean or sum.
        sign: signed, or absolute (taken per position, before the aggregation).
        target: gradient of the true label's probability, or of its logarithm.
        at: which activations: neurons, or linears.

    Returns:
        Means over the texts, fp32 on the CPU: ``<block>.ffn`` [units], ``<block>.heads`` [heads],
        ``.vo`` and ``.qk`` [heads, dim].

    Raises:
        ConfigError: an option outside of its choices.
    """
    options = {"tokens": tokens, "sign": sign, "target": target, "at": at}
    for name, value in options.items():
        check(name, value)
    taps_by_name, totals, texts = taps(model, at), Totals(model), 0
    for batch in batches:
        for name, product in products(model, batch, taps_by_name, target).items():
            mask = token_mask(model, taps_by_name[name], batch["attention_mask"])
            totals.add_positions(taps_by_name[name], product, mask, tokens, sign)
        texts += len(batch["labels"])
    return totals.means(texts)
