"""Every family by its name."""

from .family import Family
from .family_bert import Bert, Roberta, XlmRoberta
from .family_modernbert import ModernBert
from .family_t5 import T5

FAMILIES: dict[str, Family] = {
    family.name: family for family in (Bert(), Roberta(), XlmRoberta(), ModernBert(), T5())
}
