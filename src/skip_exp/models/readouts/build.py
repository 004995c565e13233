"""Every readout by its name."""

from skip_exp.config.named import part_class
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
    """The class of one of READOUTS, or a custom one (``module.Class``). Raises ConfigError."""
    return part_class("backbone.readout", name, READOUTS, Readout)
