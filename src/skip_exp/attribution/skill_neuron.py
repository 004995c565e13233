"""Skill neurons: how well an activation on the prompt's tokens separates the classes.

Wang et al. 2022. The baseline of a neuron on a prompt token is its mean activation there over the
training texts. The classifier "the second class if the activation is above the baseline" has an
accuracy Acc. The neuron's predictivity on the token is max(Acc, 1 - Acc), and over the prompt that
of its best token. The score is the predictivity minus 1/2, the gain over chance. Departures:

- Acc is the mean of the two classes' accuracies (the same if they are balanced). Otherwise a
  constant unit would beat an informative one whenever one class is rare. The score is therefore
  half the difference between the classes' shares above the baseline.
- With more than two classes a neuron counts by how well it separates each class from the rest, the
  mean over the texts, with one baseline. The paper splits into tasks of two classes and unites the
  best neurons of each. The best pair alone would be separated fully by nearly every neuron where
  many classes have a few texts each.
- Baseline and accuracy come from the same texts. The paper takes the accuracy from the development
  set, and the mean over several prompts.
- The paper scores FFN units only. Context values are classified in the same way, and a head gets
  the sum over its dims.
- Prefix prompts have no positions, nor has a decoder under an input prompt. There the one token is
  the mean over the text's positions.

Cost: two forward passes without gradients, and the comparisons: about two and a half.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from skip_exp.attribution.observe import Tap, Totals, logits, observe, over_tokens, taps, token_mask
from skip_exp.data.batches import Batch
from skip_exp.errors import SkipError
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


@torch.no_grad()
def scores(model: SoftPromptModel, batches: Iterable[Batch]) -> Relevance:
    """Score every neuron by its predictivity minus 1/2.

    Arguments and result as in :func:`activation_gradient.scores`.

    Raises:
        SkipError: all texts are of one class.
    """
    batches = list(batches)  # two passes, because keeping the activations could fill the memory
    counts = torch.cat([batch["labels"] for batch in batches]).bincount()
    if (counts > 0).sum() < 2:
        raise SkipError(
            "attribution: skill_neuron needs texts of two classes, but all scored texts are of "
            "one; raise attribution.samples"
        )
    taps_by_name = taps(model)
    totals = Totals(model)
    for name, above in _count_above(model, taps_by_name, batches, counts).items():
        best = _compute_gain(above, counts).amax(0)
        tap = taps_by_name[name]
        totals.add(tap.sublayer.site, tap.by_neuron(tap.view(best[None, None]))[0])
    return totals.means(1)


def _compute_gain(above: Tensor, counts: Tensor) -> Tensor:
    """Predictivity minus 1/2 [tokens, n], of texts above the baseline [classes, tokens, n]."""
    size = counts[:, None, None]
    total = counts.sum()
    share = above / size.clamp(min=1)
    rest = (above.sum(0) - above) / (total - size)
    return (size / total * (share - rest).abs()).sum(0) / 2


def _count_above(
    model: SoftPromptModel, taps_by_name: dict[str, Tap], batches: list[Batch], counts: Tensor
) -> dict[str, Tensor]:
    """Count the texts of each class above the mean of all: {tap: [classes, tokens, n]}."""
    sums: dict[str, Tensor] = {}
    for _, activations in _on_prompt(model, taps_by_name, batches):
        for name, x in activations.items():
            sums[name] = sums.get(name, 0) + x.double().sum(0)
    above: dict[str, Tensor] = {}
    for labels, activations in _on_prompt(model, taps_by_name, batches):
        for name, x in activations.items():
            baseline = sums[name] / counts.sum()
            # Layer 0 of the prompt reads no text: batches differ in the last bits only.
            higher = (x - baseline > 1e-5 * baseline.abs()).double()
            empty = higher.new_zeros(len(counts), *higher.shape[1:])
            above[name] = above.get(name, 0) + empty.index_add(0, labels, higher)
    return above


def _on_prompt(
    model: SoftPromptModel, taps_by_name: dict[str, Tap], batches: list[Batch]
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield labels [B] and activations on the prompt's tokens, {tap: [B, tokens, n]}."""
    for batch in batches:
        with observe(model, taps_by_name) as activations:
            logits(model, batch)
        on_prompt: dict[str, Tensor] = {}
        for name, h in activations.items():
            x = h.float().flatten(2)
            if model.prompt.at_input and taps_by_name[name].reads_encoder:
                x = x[:, : model.prompt.length]
            else:
                mask = token_mask(model, taps_by_name[name], batch["attention_mask"])
                x = over_tokens(x, mask, "mean")[:, None]
            on_prompt[name] = x.unflatten(0, (len(batch["labels"]), -1)).mean(1)  # a decoder's rows
        yield batch["labels"], on_prompt
