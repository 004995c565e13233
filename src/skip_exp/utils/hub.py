"""Whether the Hugging Face hub can be reached, decided once and in at most two seconds.

By default the hub clients retry for about 25 s per file, and ``HF_HUB_OFFLINE`` is read only at
import, so the flags that they read later are set here.
"""

import logging
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import huggingface_hub
from huggingface_hub import constants

from skip_exp.errors import one_line

log = logging.getLogger(__name__)

TIMEOUT = 2.0  # seconds, name resolution included


@lru_cache(maxsize=1)
def hub_reachable() -> bool:
    """One request to the hub's front page; honours HF_ENDPOINT, proxies and HF_HUB_OFFLINE."""
    if constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []
    # A thread, because no client's timeout covers name resolution and its phases add up.
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return bool(answers and answers[0])


def ask() -> bool:
    try:
        # The hub's session has the proxies and certificates of the later downloads.
        response = huggingface_hub.get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as err:  # any error of the HTTP library means no
        log.debug("hub check failed: %s", err)
        return False
    # A filter or a proxy answers 403, 407 or 5xx in the hub's place.
    return response.status_code not in (403, 407) and response.status_code < 500


def offline_if_unreachable() -> None:
    """Set the hub clients offline for this process if the hub cannot be reached.

    They then use their caches without retries.
    """
    if not hub_reachable():
        _set_offline(True)


def explain_failure(error: BaseException, name: str) -> str:
    """Why ``name`` could not be loaded from the hub, and the fix, in one line."""
    if not hub_reachable():
        return "not in the Hugging Face cache, and the hub cannot be reached from here"
    reason = textwrap.shorten(one_line(error), 200, placeholder=" ...")  # some have many lines
    page = " ".join(f"{constants.ENDPOINT}/{name}".split())
    login = "log in with `hf auth login`, or set HF_TOKEN"
    return f"{reason}; if {page} is private or gated, {login}"


@contextmanager
def offline() -> Iterator[None]:
    """Inside the block, only the caches are used."""
    before = constants.HF_HUB_OFFLINE
    _set_offline(True)
    try:
        yield
    finally:
        _set_offline(before)


def _set_offline(value: bool) -> None:
    constants.HF_HUB_OFFLINE = value
    # datasets keeps a copy, taken at its import (which costs a second: not forced here).
    if config := sys.modules.get("datasets.config"):
        config.HF_HUB_OFFLINE = config.HF_DATASETS_OFFLINE = value  # type: ignore[attr-defined]
