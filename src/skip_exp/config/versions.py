"""What differs between Hydra 1.3 and 1.4, and between their OmegaConf 2.3 and 2.4."""

from typing import Any

import hydra
from omegaconf import OmegaConf

_IS_OLD = hydra.__version__.startswith("1.3.")
_CALLBACK = "skip_exp.sweep.check.Started"  # in conf/config.yaml

# For hydra.initialize_config_dir: 1.3 warns where it is not named, 1.4 where it is.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if _IS_OLD else {}
# For hydra.main: 1.4 asks what a configuration may call.
MAIN: dict[str, Any] = VERSION_BASE if _IS_OLD else {"execution_whitelist": _CALLBACK}
register_resolver: Any = OmegaConf.register_new_resolver if _IS_OLD else OmegaConf.register_resolver
