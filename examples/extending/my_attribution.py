"""Attribution by the power of the activations: a neuron that hardly fires is hardly needed.

One forward pass, without labels or gradients. Unlike activation x gradient, it does not
distinguish neurons that this task needs from neurons that fire for every task.
"""

from collections.abc import Iterable

import torch

from skip_exp.attribution.observe import Batch, Totals, logits, observe, taps, token_mask
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


@torch.no_grad()
def scores(
    model: SoftPromptModel, batches: Iterable[Batch], *, tokens: str = "sum", power: float = 2
) -> Relevance:
    """Mean over the texts of |activation|^power, over a text's positions as ``tokens`` says.

    Args:
        tokens: sum, mean or max; the key ``attribution.options.tokens``.
        power: the key ``attribution.options.power``.

    Returns:
        Every site's scores: ``.ffn`` [units], ``.heads`` [heads].
    """
    found, totals, texts = taps(model), Totals(model), 0
    for batch in batches:
        count = len(batch["labels"])
        with observe(model, found) as seen:  # inputs of the down and the output projections
            logits(model, batch)
        for name, h in seen.items():  # [B, T, units] or [B, T, heads, dim]
            real = token_mask(model, found[name], batch["attention_mask"])
            powers = h.float().abs() ** power
            totals.add_positions(found[name], powers, count, real, tokens, "signed")
        texts += count
    return totals.means(texts)
