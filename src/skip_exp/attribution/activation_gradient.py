"""Activation x gradient, the method of SKIP (Yang et al. 2024): A_i = h_i * dP(y|P,x)/dh_i.

With ``target`` and ``temperature`` P becomes another measure of how right the model is, which does
not saturate where it is sure (:mod:`skip_exp.attribution.target`).

``at=neurons`` scores what a cut removes. An FFN unit is scored by the input of the down projection,
a head by the sum over its dims of the context that enters the output projection.

``at=linears`` scores the raw outputs of the linears, like the first author's later code. An FFN
unit is scored by the output of the up projection before the activation function (both outputs, if
gated), and a head by the sum over its outputs of Q, K and V. The outputs of O and of the down
projection are coordinates of the hidden state, which no structured cut removes; they are not
scored.

Cost: one forward and one backward pass without weight gradients, about two forward passes.
"""

from collections.abc import Iterable

from skip_exp.attribution.observe import Totals, products, taps, token_mask
from skip_exp.data.batches import Batch
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(
    model: SoftPromptModel,
    batches: Iterable[Batch],
    *,
    tokens: str = "max",
    sign: str = "signed",
    target: str = "probability",
    temperature: float = 1.0,
    at: str = "neurons",
) -> Relevance:
    """Score every neuron by the mean of activation x gradient over the texts.

    Example:
        >>> relevance = scores(model, batches, tokens="sum", sign="absolute")
        >>> relevance["encoder.0.ffn"].shape
        torch.Size([1536])

    Args:
        model: the tuned model, on the device of the batches; it is not changed.
        batches: ``input_ids``, ``attention_mask``, ``labels``, and token types if any.
        tokens: aggregation over the real positions of a text: ``max``, ``mean`` or ``sum``.
        sign: ``signed``; ``absolute``, taken per position before the aggregation; or ``text``,
            taken after it, so that signs cancel within a text. The sum then is how much the target
            would change, to first order, if the neuron were 0 at all positions of the text
            (Molchanov et al. 2017).
        target: what is differentiated: the true label's ``probability``, ``log_probability`` or
            ``log_odds``; see :mod:`skip_exp.attribution.target`.
        temperature: the logits are divided by it first.
        at: which activations: ``neurons`` or ``linears``.

    Returns:
        Scores by site, fp32 on the CPU: ``<block>.ffn`` [units], ``<block>.heads`` [heads].
    """
    taps_by_name = taps(model, at)
    totals = Totals(model)
    texts = 0
    for batch in batches:
        count = len(batch["labels"])
        for name, product in products(model, batch, taps_by_name, target, temperature).items():
            tap = taps_by_name[name]
            mask = token_mask(model, tap, batch["attention_mask"])
            totals.add_positions(tap, product, count, mask, tokens, sign)
        texts += count
    return totals.means(texts)
