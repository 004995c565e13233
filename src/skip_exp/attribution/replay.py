"""What lies below an activation is computed once, and played back while the activation varies.

A pass that only changes one activation need not compute again what was finished before it: the
layers below, and within its layer the sublayers below. Whatever module had returned by then is
made to return the same again, for as many copies of the rows as are asked for, so that nothing
below runs or is on the autograd graph. No family needs to know how to start in the middle.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skip_exp.attribution.observe import Tap, logits, observe
from skip_exp.data.batches import Batch
from skip_exp.models.families.base import AttentionBlock
from skip_exp.models.soft_prompt import SoftPromptModel

Returned = dict[nn.Module, Any]  # a module -> what it returned


@torch.no_grad()
def record(
    model: SoftPromptModel, batch: Batch, taps_by_name: dict[str, Tap]
) -> dict[str, tuple[Tensor, Returned]]:
    """One forward pass: each tap's activation (see ``observe``), and what does not depend on it.

    Memory: the activations of the taps and, per layer, about as much as three hidden states.
    """
    recorder = _Recorder(taps_by_name)
    with observe(model, taps_by_name) as activations, recorder.listen(model):
        logits(model, batch)
    beside = _projections(model)
    return {
        name: (
            h.detach(),
            recorder.replayable(
                recorder.below[name]
                | {m: recorder.projected[m] for m in beside.get(taps_by_name[name].linear, ())}
            ),
        )
        for name, h in activations.items()
    }


@contextmanager
def replay(returned: Returned, times: int) -> Iterator[None]:
    """Within the block these modules return what they did, for each row ``times`` over."""
    with ExitStack() as stack:
        for module, output in returned.items():
            module.forward = partial(_answer, output, times)
            stack.callback(delattr, module, "forward")
        yield


def _answer(output: Any, times: int, *_: object, **__: object) -> Any:
    """``output`` with its rows repeated; what comes after the first of several may have none."""
    several = output if isinstance(output, tuple) else (output,)
    rows = len(several[0])
    repeated = tuple(
        x if x is None or len(x) != rows else x.repeat(times, *[1] * (x.dim() - 1)) for x in several
    )
    return repeated if isinstance(output, tuple) else repeated[0]


def _projections(model: SoftPromptModel) -> dict[nn.Linear, tuple[nn.Linear, ...]]:
    """Queries, keys and values do not depend on each other, in whatever order they are computed."""
    siblings: dict[nn.Linear, tuple[nn.Linear, ...]] = {}
    for block in model.blocks():
        if isinstance(block, AttentionBlock):
            linears = block.attention.projections()
            siblings |= dict.fromkeys(linears, linears)
    return siblings


class _Recorder:
    """Which modules had returned when a tap was passed; of nested ones only the outermost.

    Attributes:
        below: tap -> what these modules returned.
        projected: what each query, key and value layer returned.
    """

    def __init__(self, taps_by_name: dict[str, Tap]) -> None:
        self.taps_by_name = taps_by_name
        self.open: list[Returned] = [{}]  # one per module that is running: what ran inside so far
        self.calls: Counter[nn.Module] = Counter()
        self.below: dict[str, Returned] = {}
        self.projected: Returned = {}

    @contextmanager
    def listen(self, model: SoftPromptModel) -> Iterator[None]:
        with ExitStack() as stack:
            keep = stack.enter_context
            for linear in _projections(model):
                keep(linear.register_forward_hook(self._project))
            for module in model.modules():
                keep(module.register_forward_pre_hook(self._enter))
                keep(module.register_forward_hook(self._leave))
            for name, tap in self.taps_by_name.items():
                keep(tap.hook(partial(self._pass, name)))
            yield

    def _enter(self, module: nn.Module, _: object) -> None:
        self.open.append({})

    def _leave(self, module: nn.Module, _: object, output: Any) -> None:
        self.open.pop()
        self.open[-1][module] = output
        self.calls[module] += 1

    def _project(self, module: nn.Module, _: object, output: Tensor) -> None:
        self.projected[module] = output

    def _pass(self, name: str, x: Tensor) -> Tensor:
        self.below[name] = {m: out for inside in self.open for m, out in inside.items()}
        return x

    def replayable(self, returned: Returned) -> Returned:
        """Without tables, whose entries are no rows of texts, and what runs twice in one pass."""
        return {
            module: out
            for module, out in returned.items()
            if self.calls[module] == 1 and not isinstance(module, nn.Embedding)
        }
