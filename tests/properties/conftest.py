"""Every run draws the same examples: few of them, or many where CI_NIGHTLY=1."""

import os

from hypothesis import HealthCheck, Phase, settings

REPEATABLE = settings(
    derandomize=True,
    database=None,
    deadline=None,  # the machine may be busy
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# A failure is shown as it was drawn: to find a smaller one can take minutes, which a night has.
settings.register_profile("few", REPEATABLE, max_examples=25, phases=[Phase.generate])
settings.register_profile("nightly", REPEATABLE, max_examples=500)
settings.load_profile("nightly" if os.environ.get("CI_NIGHTLY") == "1" else "few")
