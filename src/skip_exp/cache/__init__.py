"""Stage cache: a phase whose inputs are unchanged is loaded, not run again.

``python -m skip_exp.cache`` lists what is kept and removes what is of no use any more.
"""

from skip_exp.cache.store import (
    Entry,
    Pointer,
    StageCache,
    entry_name,
    read_about,
    read_entry,
    read_pointer,
)

__all__ = [
    "Entry",
    "Pointer",
    "StageCache",
    "entry_name",
    "read_about",
    "read_entry",
    "read_pointer",
]
