"""Hooks that are gone when a block ends, after an error too."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove ``handles`` at the end of the block.

    Give a generator that registers the hooks, e.g. ``hooked(x.register_forward_hook(f) for x in
    layers)``: where one cannot be registered, those before it are removed.
    """
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield
