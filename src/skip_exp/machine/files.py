"""Files that appear whole or not at all."""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write ``path`` through a temporary file beside it. Raises OSError; leaves no half file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a rename may outlive a crash that its content does not
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
