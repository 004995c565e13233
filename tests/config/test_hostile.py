"""A task file that was mangled, by accident or on purpose: it composes, or it is one line.

Nothing in it is ever run.
"""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """The good file with bits flipped, cut off, a value or a line of VALUES put in."""
    content = GOOD.encode()
    for _ in range(draw(st.integers(1, 3))):
        match draw(st.sampled_from(["flip", "cut", "value", "line", "twice"])):
            case "flip" if content:
                at, bit = draw(st.integers(0, len(content) - 1)), draw(st.integers(0, 7))
                content = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            case "cut":
                content = content[: draw(st.integers(0, len(content)))]
            case "value":
                key = draw(st.sampled_from([b"name", b"files", b"text", b"labels", b"metrics"]))
                value = draw(st.sampled_from(VALUES)).encode()
                lines = content.split(b"\n")
                mine = [key + b": " + value if x.startswith(key + b":") else x for x in lines]
                content = b"\n".join(mine)
            case "line":
                content += draw(st.sampled_from(VALUES)).encode() + b"\n"
            case "twice":
                content += content[: draw(st.integers(0, 60))]
    return content


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


@pytest.mark.slow
@settings(
    max_examples=200,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
@given(content=mangled())
def test_a_mangled_file_is_a_line_or_composes(cli: Cli, content: bytes) -> None:
    outcome(cli, content)
