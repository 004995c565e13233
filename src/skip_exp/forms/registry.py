"""Every form by its name."""

from skip_exp.forms.base import Form
from skip_exp.forms.bf16 import Bf16
from skip_exp.forms.fp32 import Fp32
from skip_exp.forms.int8 import Int8

FORMS: dict[str, Form] = {form.name: form for form in (Fp32(), Bf16(), Int8())}


def list_available() -> list[Form]:
    """The forms that this machine runs well, fp32 first."""
    return [form for form in FORMS.values() if form.available()]
