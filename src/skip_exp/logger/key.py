"""Detects W&B's credentials; without them runs stay offline instead of prompting."""

import wandb
from wandb.sdk.lib import wbauth


def has_key() -> bool:
    """Whether W&B finds credentials in the environment, the netrc file or its settings."""
    host = wandb.setup().settings.base_url
    try:
        # `wandb.login` has no option not to prompt.
        auth = wbauth.authenticate_session(
            host=host, source="skip_exp", prompt=False, update_session=False
        )
    except wandb.errors.AuthenticationError:
        return True  # malformed: `wandb.init` refuses it and says why
    except UnicodeDecodeError:
        return False  # a netrc file that is no text
    return auth is not None
