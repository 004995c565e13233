"""A new readout by its name."""

from transformers import PreTrainedTokenizerBase

from skip_exp.config.named import named
from skip_exp.errors import ConfigError
from skip_exp.models.families.base import HFModel
from skip_exp.models.readouts.base import Readout
from skip_exp.models.readouts.head import HeadReadout
from skip_exp.models.readouts.mlm import MlmReadout
from skip_exp.models.readouts.seq2seq import Seq2SeqReadout

READOUTS: dict[str, type[Readout]] = {
    "head": HeadReadout,
    "mlm": MlmReadout,
    "seq2seq": Seq2SeqReadout,
}


def readout_class(name: str) -> type[Readout]:
    """The class of a readout: of READOUTS, or one of the user's own by its place.

    Raises:
        ConfigError: neither.
    """
    names = tuple(READOUTS)
    class_ = READOUTS[name] if name in READOUTS else named("backbone.readout", name, names)
    if not (isinstance(class_, type) and issubclass(class_, Readout)):
        allowed = "must be a subclass of models.readouts.base.Readout"
        raise ConfigError("backbone.readout", name, allowed)
    return class_


def build_readout(
    name: str,
    model: HFModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    labels: int,
    words: tuple[str, ...],
    pooling: str,
) -> Readout:
    """The readout ``name`` for a task of ``labels`` classes named by ``words``."""
    return readout_class(name).build(model, tokenizer, labels, words, pooling)
