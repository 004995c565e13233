"""``skip-exp WORD ...`` and ``python -m skip_exp WORD ...``: one command line for everything."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from skip_exp import __version__
from skip_exp.__main__ import COMMANDS, main
from skip_exp.commands import report
from skip_exp.config.checks import import_part
from skip_exp.config.schema import conf_dir
from tests.conftest import Cli
from tests.helpers.toy import untyped as composed


@pytest.mark.parametrize("word", COMMANDS)
def test_every_command_has_its_help(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["skip-exp", word, "--help"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: skip-exp {word}")
    assert "`" not in told and re.search(rf"^Examples?:\n\n    skip-exp {word}", told, re.M)


def test_ctrl_c_ends_a_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Any
) -> None:
    def pressed(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "main", pressed)
    monkeypatch.setattr(sys, "argv", ["skip-exp", "report", str(tmp_path)])
    assert main() == 130
    assert capsys.readouterr().err == "\nerror: interrupted\n"


def test_modules_of_the_working_directory_are_found_as_by_python_m(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_command.py").write_text("def scores(model, batches): ...\n")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", ".")])
    method = "attribution._target_=beside_the_command.scores"
    ended = cli(
        "+task=rte", method, run=lambda cfg: import_part("method", cfg.attribution._target_)
    )
    assert "cannot be imported" not in ended.err + ended.out and len(ended.jobs) == 1


def test_help_fits_a_screen_and_names_commands_groups_and_choices(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own/task").mkdir(parents=True)
    (tmp_path / "own/task/mine.yaml").touch()
    ended = cli("-cd", "own", "--help")
    assert ended.code == 0 and len(ended.out.splitlines()) <= 60
    assert re.findall(r"^  skip-exp ([a-z]\w+)", ended.out, re.M) == list(COMMANDS)
    for word in ("bert_base", "wandb", "mine", "rte", "joblib"):
        assert re.search(rf"[ ]{re.escape(word)}(,|$| )", ended.out, re.M), word
    defaults = composed("+task=rte")
    for key, value in re.findall(r"^  ([a-z_.]+)=(\S+)", ended.out, re.M):
        assert OmegaConf.select(defaults, key) == yaml.safe_load(value), key


def test_the_version_is_ours(cli: Cli) -> None:
    ended = cli("--version")
    assert (ended.code, ended.out) == (0, f"skip_exp {__version__}\n")


@pytest.mark.parametrize("arguments", [["predicts"], ["predcit"], ["+task=rte", "predict"]])
def test_any_other_word_is_refused_and_the_right_one_named(cli: Cli, arguments: list[str]) -> None:
    ended = cli(*arguments)
    assert (ended.code, ended.jobs) == (2, [])
    assert re.fullmatch(r"error: [^\n]*predict[^\n]*\n", ended.err)


def test_the_console_command_is_main() -> None:
    project = tomllib.loads((conf_dir().parent / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"skip-exp": f"{main.__module__}:main"}
