"""Hooks that are gone at the end of a block."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hold_hooks(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove ``handles`` at the end of the block, also after an error.

    Pass a generator that registers the hooks. If one of them fails, those before it are removed.

    Example:
        >>> with hold_hooks(layer.register_forward_hook(store) for layer in layers):
        ...     model(**batch)
    """
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield
