"""A job in a real terminal of 100 x 30, as a user sees it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.helpers.toy import save_toy

JOB = ("logger=none", "trainer.progress=true", "tune.epochs=3", "retune.epochs=2")


def in_a_terminal(arguments: list[str], folder: Path) -> str:
    """The output of ``python -m skip_exp ARGUMENTS``, whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    command = [sys.executable, "-m", "skip_exp", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=folder) as job:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 2**16)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert job.returncode == 0, shown.decode()
    return shown.decode()


@pytest.mark.slow
def test_a_terminal_shows_phases_epochs_scores_and_what_comes_next(tmp_path: Path) -> None:
    arguments = [*save_toy(tmp_path), *JOB]
    shown = in_a_terminal(arguments, tmp_path)
    assert "\r" not in shown.replace("\r\n", "\n")  # nothing took five seconds: no bar
    lines = shown.splitlines()
    assert lines[0] == "skip_exp: loading torch ..."
    assert re.findall(r"^\[(\d)/6\] ", shown, re.M) == list("123456")
    assert len(re.findall(r"^epoch \d of [32]  accuracy \d+\.\d  loss \d", shown, re.M)) == 7
    for state in ("dense", "pruned", "final"):
        assert re.search(rf"^{state} +accuracy \d+\.\d  f1 \d+\.\d", shown, re.M)
    assert [line.split(":")[0] for line in lines[-4:]] == ["results", "skill", "predict", "export"]
    again = in_a_terminal(arguments, tmp_path).splitlines()
    assert [line.split(":")[0] for line in again[-3:]] == ["skill", "predict", "export"]
    skill = again[-3].split()[1]  # a copy of its own
    assert (tmp_path / skill / "skill.json").is_file() and skill not in lines[-3]
