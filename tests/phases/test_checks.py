"""What a job refuses or warns of once its backbone is there."""

import pytest

from skip_exp.backbones.load import load_backbone
from skip_exp.phases import checks
from tests.helpers.toy import composed


@pytest.mark.parametrize(("task", "warns"), [("banking77", True), ("rte", False)])
def test_label_words_that_t5_decodes_slowly_are_warned_of(
    task: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The names of BANKING77 have several pieces, all of them known, none a beginning."""
    cfg = composed(f"+task={task}", "backbone=t5_mini", "output_dir=here")
    b = cfg.backbone
    checks.check(cfg, load_backbone(b.label, b.path, b.family, b.readout, b.layers))
    assert ("backbone.readout=head" in caplog.text) == warns
