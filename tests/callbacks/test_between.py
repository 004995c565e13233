"""Attribution and pruning in a Lightning loop of the user's own."""

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from skip_exp.attribution import activation_gradient, random
from skip_exp.callbacks.between import AttributionCallback, PruningCallback
from skip_exp.errors import ConfigError
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import block_parameters, shapes_of, site_sizes
from tests.helpers.tiny import tiny_batch, tiny_model

BATCHES = [tiny_batch(seed=seed) for seed in range(3)]
LOADER: Any = DataLoader(BATCHES, batch_size=None)  # type: ignore[arg-type]


class Mine(L.LightningModule):
    """Whatever else it does, its model is ``self.model``."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_model()
        self.widths: set[int] = set()  # of the first layer, as the steps saw it

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        self.widths.add(shapes_of(self.model)[1].units)
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        return F.cross_entropy(self.model(**inputs), batch["labels"])

    validation_step = test_step = training_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [each for each in self.parameters() if each.requires_grad]
        return torch.optim.SGD(trained, lr=0.1)


def trainer(*callbacks: L.Callback) -> L.Trainer:
    return L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=[*callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def copied(model: SoftPromptModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.core
def test_a_loop_is_attributed_pruned_and_trained_on() -> None:
    module = Mine()
    module.train()
    dense, before = module.model, copied(module.model)
    attribution = AttributionCallback(activation_gradient.scores, BATCHES)
    trainer(attribution).validate(module, LOADER, verbose=False)
    expected = activation_gradient.scores(tiny_model(), BATCHES)
    assert attribution.relevance.keys() == site_sizes(shapes_of(dense)).keys() == expected.keys()
    for site, scores in expected.items():
        torch.testing.assert_close(attribution.relevance[site], scores)
    assert module.model is dense and dense.training

    pruning = PruningCallback(attribution.relevance, ratio=0.5, round_to=4)
    loop = trainer(pruning)
    loop.fit(module, LOADER, LOADER)
    assert all(each.training for each in module.model.modules())
    loop.test(module, LOADER, verbose=False)  # the same trainer again: nothing is cut twice
    units = len(pruning.keep["encoder.0.ffn"])
    assert module.widths == {shapes_of(dense)[1].units, units}
    assert 0.4 < 1 - block_parameters(module.model) / block_parameters(dense) <= 0.5
    assert not torch.equal(module.model.readout.linear.bias, before["readout.linear.bias"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


def test_a_method_gets_a_copy_of_the_model_and_all_batches() -> None:
    """It may iterate over them as often as it likes, and leave the model as it likes."""
    module, seen = Mine(), []
    before = copied(module.model)

    def method(model: SoftPromptModel, batches: Any) -> Any:
        assert not model.training
        seen.extend(len(list(batches)) for _ in range(2))
        for parameter in model.requires_grad_(True).parameters():
            parameter.data.zero_()
        return random.scores(model, [])

    trainer(AttributionCallback(method, iter(BATCHES))).validate(module, LOADER, verbose=False)
    assert seen == [3, 3]
    assert all(torch.equal(t, before[name]) for name, t in module.model.state_dict().items())
    frozen = [p for p in module.model.backbone.parameters() if not p.requires_grad]
    assert frozen


@pytest.mark.parametrize(
    ("callback", "error", "says"),
    [
        (AttributionCallback(lambda *_: {}, BATCHES), ValueError, r"encoder\.0\.self\.heads"),
        (PruningCallback(random.scores(tiny_model(), []), 0.99), ConfigError, r"^prune\.ratio="),
        (PruningCallback({}, 0.5, allocation="fair"), ConfigError, r"^prune\.allocation=fair: "),
    ],
)
def test_what_cannot_be_done_is_refused(callback: Any, error: type[Exception], says: str) -> None:
    module = Mine()
    dense = module.model
    with pytest.raises(error, match=says):
        trainer(callback).validate(module, LOADER, verbose=False)
    assert module.model is dense
