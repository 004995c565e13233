"""One thread at a time in a tokenizer."""

import threading
from typing import Any

_CALLING = threading.Lock()


def tokenize_fast(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """``tokenizer(*texts, **options)``. Every call in the package goes through here.

    Truncation is a state of a fast tokenizer, which all skills of a backbone and a fit share.
    """
    with _CALLING:
        return tokenizer(*texts, **options)
