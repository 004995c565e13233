"""Fisher information of a mask on every neuron (Kwon et al. 2022, diagonal approximation).

I_i is the mean over the texts of (dL/dm_i)^2. L is the cross entropy of the true label. The mask
m_i = 1 multiplies the neuron at every position, so dL/dm_i is the sum over them of h_i * dL/dh_i.
Masks sit where a cut removes values: before the down projection, and on the context of a head. The
authors' code squares the gradient of a whole batch. Here it is squared per text, so the result does
not depend on the batches.

Cost: one forward and one backward pass without weight gradients, about two forward passes.
"""

from collections.abc import Iterable

from skip_exp.attribution.observe import Totals, products, sum_rows, taps
from skip_exp.data.batches import Batch
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(
    model: SoftPromptModel,
    batches: Iterable[Batch],
    *,
    target: str = "log_probability",
    temperature: float = 1.0,
) -> Relevance:
    """Score every neuron by the Fisher information of its mask.

    Arguments and result as in :func:`activation_gradient.scores`. Any ``target`` but the
    default takes the place of minus the loss.
    """
    taps_by_name = taps(model)
    totals = Totals(model)
    texts = 0
    for batch in batches:
        count = len(batch["labels"])
        for name, product in products(model, batch, taps_by_name, target, temperature).items():
            masks = sum_rows(product.sum(1), count)  # the gradient of padding is zero
            tap = taps_by_name[name]
            totals.add(tap.sublayer.site, tap.by_neuron(masks).square())
        texts += count
    return totals.means(texts)
