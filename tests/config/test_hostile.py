"""A task file with odd or hostile values composes or is refused in one line; none is ever run."""

import re
from pathlib import Path

import pytest

from tests.conftest import Cli

GOOD = """name: mine
files: {train: train.csv, validation: validation.csv}
text: [sentence]
label: label
labels: [bad, good]
words: [bad, good]
metrics: [accuracy, f1]
extra: []
"""
VALUES = (
    *("!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system"),
    *("!!python/object/new:subprocess.Popen [[touch, ran]]", "!!binary aGk=", "!foo bar"),
    *("1" * 5000, "-9e999", ".nan", "0x" + "f" * 400, "1_000", "0o17", "2001-01-01", "~"),
    *("[" * 400 + "]" * 400, "{a: " * 60 + "1" + "}" * 60, "*nowhere", "&x [*x]", "<<: 1"),
    *("${oc.env:HOME}", "${name}", "${oc.create:{a: 1}}", "${oc.decode:'['}", "${", "???"),
    *("'\x00'", "'\\x07'", "a: b: c", "- - -", "|", ">", "@x", "%", "\ufeff", "\u2028", "'"),
    *("{name: mine}", "[]", "{}", "true", "3.5", "[[a], b]", "{1: 2}", "{[a]: b}", "null"),
)


def outcome(cli: Cli, content: bytes) -> str:
    """What the command says of a task file: nothing, or its one line."""
    file = Path("own/task/mine.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    ended = cli("--config-dir", "own", "+task=mine")
    assert not Path("ran").exists()
    assert ended.code in (0, 2), ended.err
    if ended.code == 0:
        assert len(ended.jobs) == 1 and ended.err == ""
        return ""
    assert ended.jobs == []
    assert re.fullmatch(r"error: [^\n]{1,2000}\n", ended.err), ended.err
    return ended.err


def test_the_file_is_good_before(cli: Cli) -> None:
    assert outcome(cli, GOOD.encode()) == ""


@pytest.mark.parametrize(
    "value",
    [*VALUES[:6], *(pytest.param(value, marks=pytest.mark.slow) for value in VALUES[6:])],
    ids=lambda value: ascii(value[:20]),
)
def test_every_odd_value_is_a_line_or_composes(cli: Cli, value: str) -> None:
    outcome(cli, GOOD.replace("name: mine", f"name: {value}").encode())
    outcome(cli, GOOD.replace("labels: [bad, good]", f"labels: {value}").encode())
