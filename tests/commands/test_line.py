"""What the commands share."""

import errno
from typing import Any

import pytest

from skip_exp.commands.line import one_line_errors
from skip_exp.config.compose import describe_failure

FULL = OSError(errno.ENOSPC, "No space left on device", "outputs/fit.ckpt")


def test_a_full_disk_is_one_line_wherever_a_job_writes(capsys: Any) -> None:
    assert describe_failure(FULL) == "outputs/fit.ckpt: No space left on device"

    @one_line_errors(2)
    def main(_: Any = None) -> int:
        raise FULL

    assert main() == 1
    assert capsys.readouterr().err == "error: outputs/fit.ckpt: No space left on device\n"


def test_another_error_of_the_system_is_a_defect() -> None:
    @one_line_errors(2)
    def main(_: Any = None) -> int:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        main()
