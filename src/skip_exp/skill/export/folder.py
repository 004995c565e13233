"""A folder that appears whole or not at all."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skip_exp.errors import SkipError, first_line


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` at the end of the block. Raises SkipError."""
    check_out(out)
    out = out.resolve()  # the folder that a link names
    # Containers share folders, and numbers of processes.
    temporary = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, out)
    except Exception as error:
        # safetensors and tokenizers have exceptions of their own for a full disk.
        is_full = re.search(rf"\(os error ({errno.ENOSPC}|{errno.EDQUOT})\)", str(error))
        if isinstance(error, SkipError) or not (isinstance(error, OSError) or is_full):
            raise
        why = getattr(error, "strerror", None) or first_line(error)
        raise SkipError(f"{out}: cannot be written: {why}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_out(out: Path) -> None:
    """Raise SkipError unless ``out`` is a new or empty folder."""
    if not out.name:
        raise SkipError(f"{out}: not the name of a new folder")
    if os.path.ismount(out.resolve()):  # the folder is written beside `out`, then gets its name
        raise SkipError(f"{out}: is a mount point: give a new folder in it")
    # Not Path.exists, which raises where it may not look.
    if os.path.exists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise SkipError(f"{out}: exists and is not an empty folder")
    above = next(folder for folder in out.resolve().parents if os.path.exists(folder))
    if not os.access(above, os.W_OK):
        raise SkipError(f"{out}: cannot be written: no permission in {above}")
