"""The command line of a skill: examples from arguments, files and pipes; answers as JSON lines."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from skip_exp import Skill
from skip_exp.commands.answer import json_line
from skip_exp.commands.answer import predict as main
from skip_exp.errors import SkipError
from skip_exp.skill.examples import parse_lines
from tests.helpers.saved import save_tiny_skill


class Ended(NamedTuple):
    code: int
    answers: list[Any]
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., Ended]:
    """``run(*arguments, stdin=...)``: the command line in this process."""

    def run(*arguments: str | Path, stdin: str | bytes = "") -> Ended:
        given = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Ended(code, [json.loads(line) for line in told.out.splitlines()], told.err)

    return run


Run = Callable[..., Ended]


def printed(answers: Iterable[Any]) -> list[Any]:
    """Answers as the command prints them: with four digits."""
    rounded = []
    for answer in answers:
        probabilities = {label: round(p, 4) for label, p in answer["probabilities"].items()}
        rounded.append({"label": answer["label"], "probabilities": probabilities})
    return rounded


def test_a_label_below_the_threshold_is_null(saved: Path, run: Run) -> None:
    (answer,) = Skill.load(saved).predict(["a dull film"])
    largest = max(answer["probabilities"].values())
    for threshold, label in ((largest - 0.01, answer["label"]), (largest + 0.01, None)):
        ended = run(saved, "a dull film", "--reject", threshold)
        assert ended.answers == printed([answer | {"label": label}])
    for odd in ("1.5", "-0.1", "nan"):
        assert run(saved, "a dull film", f"--reject={odd}").code == 2
    with pytest.raises(SystemExit, match="2"):
        run(saved, "a dull film", "--reject=much")
    with pytest.raises(SkipError, match="reject=2"):
        Skill.load(saved).predict(["a dull film"], reject=2)


def test_texts(saved: Path, run: Run) -> None:
    ended = run(saved, "a dull film")
    assert (ended.code, ended.err) == (0, "")
    assert ended.answers == printed(Skill.load(saved).predict(["a dull film"]))
    assert sum(ended.answers[0]["probabilities"].values()) == pytest.approx(1)
    two = run(saved, "--reject", "0", "a dull film", "--precision", "32-true", "a warm one")
    assert two.answers == printed(Skill.load(saved).predict(["a dull film", "a warm one"]))


def test_pairs_from_everywhere(tmp_path: Path, run: Run) -> None:
    folder = save_tiny_skill(tmp_path, text=("{word} : {first}", "second")).folder
    rows = [
        {"word": "film", "first": "a dull film", "second": "very long", "label": 1},
        {"word": "plot", "first": "a plot", "second": "the plot was funny"},
    ]
    pairs = [("film : a dull film", "very long"), ("plot : a plot", "the plot was funny")]
    expected = printed(Skill.load(folder).predict(pairs))
    assert expected[0] != expected[1]

    lines = "".join(json.dumps(row) + "\r\n" for row in rows)
    file = tmp_path / "rows.txt"
    file.write_text("\ufeff" + lines)
    plain = "\n".join("\t".join(pair) for pair in pairs)
    (answer,) = run(folder, *pairs[0]).answers
    assert answer["probabilities"] == pytest.approx(expected[0]["probabilities"])
    assert len(run(folder, *pairs[0], *pairs[1]).answers) == 2
    assert run(folder, *pairs[0], "alone").code == 2
    assert run(folder, stdin=lines).answers == expected
    assert run(folder, "--file", file).answers == expected
    assert run(folder, stdin=plain).answers == expected
    assert run(folder, stdin="").answers == []


def parsed(content: str) -> list[Any]:
    return list(parse_lines(io.BytesIO(content.encode()), "it"))


def test_lines() -> None:
    assert parsed("a b\nc\n\n") == [["a b"], ["c"]]
    assert parsed("a\u2028b\tc") == [["a\u2028b", "c"]]
    assert parsed('{"a": 1}\n{"a": 2}') == [{"a": 1}, {"a": 2}]
    assert parsed("{curly} fun\n[1]\n3") == [["{curly} fun"], ["[1]"], ["3"]]
    assert parsed("\n \n") == []
    with pytest.raises(SkipError, match="line 2 of it is empty"):
        parsed("a\n \n\nb")
    for broken in ('{"a": ', "[2]", "text", "[" * 100_000):
        with pytest.raises(SkipError, match="line 2 "):
            parsed('{"a": 1}\n' + broken)


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["SKILL"], '{"text": "a"}', "line 1 of standard input: no column 'sentence'"),
        (["SKILL"], b"a\nna\xefve", "line 2 of standard input"),
        (["SKILL"], '{"sentence": "a"}\n{"sentence": null}', "line 2 of standard input: column"),
        (["SKILL"], '{"sentence": ["a"]}', "line 1 of standard input: column 'sentence'"),
        (["SKILL"], '{"sentence": "\\ud83d"}', "'\\ud83d'"),
        (["SKILL"], "a\nb\tc", "line 2 of standard input"),
        (["SKILL", "na\udcefve"], "", "error: example 1: "),
        (["SKILL", "a", "--file", "x"], "", "error: a: "),
        (["SKILL", "--file", "nowhere"], "", "nowhere"),
        (["SKILL", "--file", "SKILL"], "", "SKILL: "),
        (["SKILL", "--file", "SKILL/skill.safetensors"], "", "line 1 of SKILL/skill.safetensors"),
        (["SKILL/..", "a"], "", "cannot be read"),
        (["SKILL", "a", "--backbone", "./nowhere"], "", "backbone.path=./nowhere"),
    ],
)
def test_refusals(
    saved: Path, run: Run, arguments: list[str], stdin: str | bytes, message: str
) -> None:
    ended = run(*(a.replace("SKILL", str(saved)) for a in arguments), stdin=stdin)
    assert (ended.code, len(ended.answers)) == (2, 0)
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1
    assert message in ended.err.replace(f"{saved}/../skill", "SKILL").replace(str(saved), "SKILL")


@pytest.mark.parametrize(("chunk", "answered"), [(2, 2), (3, 3), (8192, 0)])
def test_whole_chunks_before_a_bad_line_are_answered(
    saved: Path,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    answered: int,
) -> None:
    monkeypatch.setattr("skip_exp.skill.classifier.CHUNK", chunk)
    (tmp_path / "f").write_bytes(b"a film\na plot\ndull\n\xff\n")
    ended = run(saved, "--file", tmp_path / "f")
    expected = printed(Skill.load(saved).predict(["a film", "a plot", "dull"]))
    assert ended.answers == expected[:answered]
    assert ended.code == 2 and f"line 4 of {tmp_path / 'f'}" in ended.err


def test_a_terminal_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main([str(tmp_path)]) == 2


@pytest.mark.slow
def test_nothing_but_answers_is_written_and_a_closed_pipe_is_no_error(saved: Path) -> None:
    command = f"yes film | head -5000 | {sys.executable} -m skip_exp predict {saved} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert json.loads(done.stdout)["label"] in ("negative", "positive")


CSV = 'id,label,sentence\n7,negative,"a dull\nfilm"\n8,,warm\n'
JSON = (
    '[{"id": 7, "sentence": "a dull\\nfilm", "label": "negative"}, {"id": 8, "sentence": "warm"}]'
)


@pytest.mark.parametrize(
    ("name", "content", "ids"), [("rows.CSV", CSV, ("7", "8")), ("rows.json", JSON, (7, 8))]
)
def test_a_table_is_read_by_its_columns(
    saved: Path, run: Run, tmp_path: Path, name: str, content: str, ids: tuple[Any, Any]
) -> None:
    file = tmp_path / name
    file.write_text(content)
    ended = run(saved, "--file", file, "--with", "id", "--with", "label")
    beside = [
        {"row": number, "columns": {"id": id, "label": label}}
        for number, id, label in zip((1, 2), ids, ("negative", None), strict=True)
    ]
    answers = printed(Skill.load(saved).predict(["a dull\nfilm", "warm"]))
    assert ended.code == 0
    assert ended.answers == [a | b for a, b in zip(beside, answers, strict=True)]
    assert not any("columns" in answer for answer in run(saved, "--file", file).answers)


def test_what_does_not_fit_a_table_is_refused_before_any_answer(
    saved: Path, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\na film,1\n")
    ended = run(saved, "--file", file)  # the column of the task is missing
    assert (ended.code, ended.answers) == (2, []) and "'sentence'" in ended.err
    file.write_text("sentence,id\na film,1\n,2\n,3\nwarm,4\n")
    ended = run(saved, "--file", file)
    assert (ended.code, ended.answers) == (2, [])
    assert "row 2, 3" in ended.err
    ended = run(saved, "--file", file, "data.drop_bad=true")
    assert [answer["row"] for answer in ended.answers] == [1, 4]
    file = tmp_path / "rows.jsonl"
    file.write_text('{"sentence": "a film", "id": "half \\ud800"}\n')
    assert run(saved, "--file", file, "--with", "id").answers[0]["columns"] == {"id": "half \ud800"}
    assert run(saved, "--file", file, "--with", "none").code == 2
    assert run(saved, "a film", "--with", "id").code == 2


def test_files_of_other_dialects(saved: Path, run: Run, tmp_path: Path) -> None:
    answer = Skill.load(saved).predict(["na\u00efve"])[0]
    known = answer["probabilities"].items()
    answer["probabilities"] = {label: round(p, 4) for label, p in known}
    lines, table = tmp_path / "a.txt", tmp_path / "a.csv"
    lines.write_text("na\u00efve\n", "latin-1")
    table.write_text("id|sentence\n1|na\u00efve\n", "latin-1")
    latin, bars = "data.encoding=latin-1", "data.sep=|"
    assert run(saved, "--file", lines, latin).answers == [answer]
    assert run(saved, "--file", table, bars, latin).answers == [{"row": 1} | answer]
    for wrong in ((lines,), (lines, "data.encoding=latin-0"), (table, latin), (table, bars)):
        ended = run(saved, "--file", *wrong)
        assert (ended.code, ended.answers, ended.err.count("\n")) == (2, [], 1)


@pytest.mark.parametrize(
    ("encoding", "mark", "options"),
    [
        ("utf-16-le", "\ufeff", []),
        ("utf-16-be", "\ufeff", []),
        ("utf-16-be", "\ufeff", ["data.encoding=latin-1"]),  # the mark says more
        ("utf-16-le", "\ufeff", ["data.encoding=utf-16"]),
        ("utf-16-le", "\ufeff", ["data.encoding=utf-16-le"]),
        ("utf-16-le", "", ["data.encoding=utf-16"]),
        ("utf-16-be", "", ["data.encoding=utf-16-be"]),
        ("utf-32-le", "\ufeff", []),
        ("utf-32-be", "\ufeff", ["data.encoding=utf-32"]),
        ("utf-32-le", "", ["data.encoding=utf-32"]),
        ("utf-8", "\ufeff", []),
    ],
)
def test_lines_and_tables_are_decoded_before_they_are_split(
    saved: Path, run: Run, tmp_path: Path, encoding: str, mark: str, options: list[str]
) -> None:
    """The middle text has a byte of a newline in a character of UTF-16."""
    texts = ["na\u00efve", "\u0a0a \u010a\u0d0a warm", "dull"]
    lines = tmp_path / "a.txt"
    lines.write_bytes((mark + "".join(f"{text}\r\n" for text in texts)).encode(encoding))
    table = tmp_path / "a.csv"
    table.write_bytes((mark + "\r\n".join(["sentence", *texts])).encode(encoding))
    expected = printed(Skill.load(saved).predict(texts))
    ended = run(saved, "--file", lines, *options)
    assert (ended.code, ended.answers) == (0, expected), ended.err
    answers = [{"row": number} | answer for number, answer in enumerate(expected, 1)]
    assert run(saved, "--file", table, *options).answers == answers
    if not options:
        assert run(saved, stdin=lines.read_bytes()).answers == expected


@pytest.mark.parametrize(
    ("content", "options", "line", "advice"),
    [
        ("dull\nna\u00efve\n".encode("latin-1"), [], 2, "data.encoding=NAME"),
        ("dull\nna\u00efve \u201ca\u201d\n".encode("cp1252"), [], 2, "data.encoding=NAME"),
        ("dull\n\u6620\u753b\n".encode("shift-jis"), [], 2, "data.encoding=NAME"),
        ("dull\nna\u00efve\n".encode("utf-16-le"), [], 1, "data.encoding=utf-16-le"),
        ("dull\nna\u00efve\n".encode(), ["data.encoding=ascii"], 2, "data.encoding=NAME"),
        ("dull\nwarm\n".encode("utf-16")[:-1], [], 2, "data.encoding=NAME"),
        ("dull\nfilm\n".encode("utf-16-be") + b"\xd8\0\0a", ["data.encoding=utf-16-be"], 3, "NAME"),
    ],
)
def test_bytes_of_another_encoding_are_refused_by_their_line(
    saved: Path,
    run: Run,
    tmp_path: Path,
    content: bytes,
    options: list[str],
    line: int,
    advice: str,
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    ended = run(saved, "--file", tmp_path / "a.txt", *options)
    assert (ended.code, ended.answers, ended.err.count("\n")) == (2, [], 1)
    assert f"line {line} of " in ended.err and advice in ended.err


def test_a_terminal_without_utf_8_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, shown in (
        ("ascii", r'{"label": "gr\u00f6\u00dfer"}'),
        ("utf-8", '{"label": "größer"}'),
    ):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert json_line({"label": "größer"}) == shown
