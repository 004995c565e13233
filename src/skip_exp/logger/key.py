"""Detects W&B's API key; without one runs stay offline instead of prompting."""

import logging
import netrc
import os
import platform
from pathlib import Path
from urllib.parse import urlsplit

import wandb

log = logging.getLogger(__name__)

# W&B's server has two names; keys saved for the older name are valid at the newer one.
_OTHER_NAMES = {"api.forge.coreweave.com": "api.wandb.ai"}


def has_key() -> bool:
    """Whether W&B would find a key in the environment, its settings or the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb.setup().settings
    return bool(settings.api_key) or _in_netrc(urlsplit(settings.base_url).netloc)


def _in_netrc(host: str) -> bool:
    """Whether the netrc file has a password for the host; an unreadable file only warns.

    As in W&B, a ``default`` entry matches every host.
    """
    file = _netrc_file()
    try:
        entries = netrc.netrc(file)
    except FileNotFoundError:
        return False
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        log.warning("W&B: cannot read %s: %s", file, error)
        return False
    entry = entries.authenticators(host) or entries.authenticators(_OTHER_NAMES.get(host, host))
    return bool(entry and entry[2])


def _netrc_file() -> Path:
    """The netrc file that W&B reads: NETRC, ``~/.netrc``, or ``~/_netrc`` on Windows."""
    if from_environment := os.environ.get("NETRC"):
        return Path(from_environment).expanduser()
    dot_netrc, underscore_netrc = Path.home() / ".netrc", Path.home() / "_netrc"
    if underscore_netrc.exists() or platform.system() == "Windows":
        return dot_netrc if dot_netrc.exists() else underscore_netrc
    return dot_netrc
