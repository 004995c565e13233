"""What a job refuses or warns of once its backbone is there."""

from types import SimpleNamespace
from typing import Any

import pytest

from skip_exp.errors import ConfigError
from skip_exp.models.backbones import load_backbone
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


def test_a_search_needs_a_slice_of_two_labels() -> None:
    data: Any = SimpleNamespace(select=[{"label": 0}, {"label": 0}])
    checks.check_slice(composed("+task=rte", "output_dir=here"), data)
    auto = composed("+task=rte", "prune.max_drop=1", "output_dir=here")
    with pytest.raises(ConfigError, match=r"^prune\.max_drop=1.0: "):
        checks.check_slice(auto, data)
    data.select.append({"label": 1})
    checks.check_slice(auto, data)
