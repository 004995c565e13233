"""Which sweep names an option that several have."""

import pytest

from skip_exp.report import screens


def test_sweeps_that_repeat_options_name_them_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "read", lambda name, own=None: name)
    names = list(map(str, screens.read_all()))
    # Random keep on minilm is an opponent: its sweep names it, not the one of T5.
    assert "opponents" in names[:-2] and names[-2:] == list(screens.REPEATS)
