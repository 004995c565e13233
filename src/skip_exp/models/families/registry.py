"""Every family by its name."""

from skip_exp.models.families.base import Family
from skip_exp.models.families.bert import Bert
from skip_exp.models.families.modernbert import ModernBert
from skip_exp.models.families.roberta import Roberta, XlmRoberta
from skip_exp.models.families.t5 import T5

FAMILIES: dict[str, Family] = {
    family.name: family for family in (Bert(), Roberta(), XlmRoberta(), ModernBert(), T5())
}
