"""What a gradient method differentiates: a function of the logits that says how right they are.

A gradient weighs every text by how far its target can still move. With z the logits divided by the
temperature T, y the true label and p = softmax(z), the gradient in z_y and in the others z_k is

    probability       P = p_y                                 P(1 - P)   and  -P p_k
    log_probability   log p_y                                 1 - P      and  -p_k
    log_odds          z_y - log(sum of exp z_k over k != y)   1          and  -p_k / (1 - P)

The first two saturate: a text of which the model is sure counts for nothing, and after every weight
has been trained that is nearly all of them. The log-odds weigh all texts alike, however sure. A
temperature above 1 softens p, so that sure texts count again; with two labels, log_probability
tends to log_odds as T grows.

With several labels per text each is a question of yes or no, with p = sigmoid(z). The target is the
sum over all labels of that of the true answer: of its probability P, of log P, or of its log-odds,
which are z where the label is given and -z where it is not.
"""

import torch.nn.functional as F
from torch import Tensor


def true_label(
    logits: Tensor, labels: Tensor, target: str = "probability", temperature: float = 1.0
) -> Tensor:
    """Compute the target of each text's true label, or labels, [B] from logits [B, labels].

    Example:
        >>> true_label(torch.tensor([[0.0, 4.0]]), torch.tensor([1]), "log_odds", temperature=2.0)
        tensor([2.])

    Args:
        labels: class indices [B]; or 0/1 [B, labels], all of whose targets are added up.
        target: ``probability``, ``log_probability`` or ``log_odds``.
        temperature: the logits are divided by it.
    """
    z = logits.float() / temperature
    if labels.dim() == 2:
        odds = z * (2 * labels - 1)
        log_p = F.logsigmoid(odds)
        targets = {"probability": odds.sigmoid(), "log_probability": log_p, "log_odds": odds}
        return targets[target].sum(1)
    column = labels[:, None]
    if target == "log_odds":
        others = z.scatter(1, column, float("-inf"))
        return z.gather(1, column)[:, 0] - others.logsumexp(1)
    log_p = z.log_softmax(1).gather(1, column)[:, 0]
    return {"probability": log_p.exp(), "log_probability": log_p}[target]
