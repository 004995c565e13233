"""Cut neurons out of a model. Nothing is masked: the weights are removed."""

from skip_exp.models.lora import unmerge_within
from skip_exp.models.narrow import narrow
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel


def cut(model: SoftPromptModel, keep: Keep, layers: int | None = None) -> SoftPromptModel:
    """Build a smaller copy of ``model`` with only the neurons in ``keep``.

    Example:
        >>> smaller = cut(model, {"encoder.0.ffn": torch.arange(8)})
        >>> shapes_of(smaller)[1].units
        8

    Args:
        model: stays as it is. Untouched weights are shared; prompt and readout are copied. The
            prompt and the factors of low-rank updates are cut alike.
        keep: site -> sorted indices of its units or heads. A site that is absent keeps everything.
            The sublayer of an empty site adds only its bias.
        layers: how many of the first layers to keep in every stack; None: all. Later ones go whole,
            norms included, whatever ``keep`` says.
    """
    smaller = model.copy()
    with unmerge_within(smaller.backbone):
        narrow(smaller, keep, layers)
    return smaller
