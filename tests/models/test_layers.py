"""The first layers of a backbone are a backbone of their own, from the start or after a cut."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, T5EncoderModel

from skip_exp import Skill, SkipForSequenceClassification
from skip_exp.backbones.load import build_readout, load_backbone
from skip_exp.commands.export import main
from skip_exp.models.prompts import PrefixPrompt
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, shapes_of
from skip_exp.models.trained import trainable_state
from skip_exp.phases.build import new_prompt
from skip_exp.skill.export.huggingface import to_huggingface
from skip_exp.skill.files import whole_model
from tests.helpers import tiny
from tests.helpers.saved import Saved, save_backbone, save_tiny_skill, some_keep
from tests.helpers.tiny import ENCODERS, KINDS, tiny_batch, tiny_inputs

READOUT = dict.fromkeys(KINDS, "head") | {"roberta": "mlm", "modernbert": "mlm", "t5": "seq2seq"}
WORDS = ("no", "yes")
TEXTS = [["a warm film"], ["dull"]]


@pytest.fixture(autouse=True)
def four_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "LAYERS", 4)


def skill_of_three_layers(root: Path, kind: str, **more: object) -> Saved:
    return save_tiny_skill(root, kind, readout=READOUT[kind], layers=3, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_first_layers_of_every_stack(tmp_path: Path, kind: str) -> None:
    path, family = str(save_backbone(tmp_path, kind)), kind.split("_")[0]
    whole, short, again = (
        load_backbone("b", path, family, READOUT[kind], layers) for layers in (None, 3, 4)
    )
    names = [block.name for block in whole.family.blocks(whole.model)]
    kept = [block.name for block in short.family.blocks(short.model)]
    assert kept == [name for name in names if name.layer < 3]
    assert {name.stack for name in kept} == {name.stack for name in names}
    assert short.content_hash != whole.content_hash == again.content_hash
    assert (whole.layers, short.layers) == (None, 3)
    assert short.model.config.num_hidden_layers == 3


@pytest.mark.parametrize("kind", [*ENCODERS, "t5"])
def test_it_computes_what_the_whole_one_does_up_to_there(tmp_path: Path, kind: str) -> None:
    path, batch = str(save_backbone(tmp_path, kind)), tiny_batch(kind)
    short = load_backbone("b", path, kind, "head", 3)
    embeds = short.model.get_input_embeddings()(batch["input_ids"])
    mask = (1 - batch["attention_mask"][:, None, None].float()) * -1e4
    found = short.family.encode(short.model, embeds, mask, batch.get("token_type_ids"))
    plain = (T5EncoderModel if kind == "t5" else AutoModel).from_pretrained(path)
    batch.pop("labels")
    if kind == "roberta":  # its own positions would leave out what looks like padding
        batch["position_ids"] = torch.arange(embeds.shape[1])[None] + 2
    with torch.no_grad():
        expected = plain(**batch, output_hidden_states=True).hidden_states[3]
        if kind == "t5":
            expected = plain.encoder.final_layer_norm(expected)
        if kind == "modernbert":
            expected = plain.final_norm(expected)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        *(("bert", "input"), ("modernbert", "input"), ("roberta", "prefix"), ("t5", "input")),
        *(("t5", "prefix"), ("t5_gated", "prefix"), ("xlm-roberta", "input")),
    ],
)
def test_a_cut_to_the_first_layers_is_a_cut_of_them(tmp_path: Path, kind: str, prompt: str) -> None:
    """In logits and in what is trained, T5's decoder included; the whole model stays."""
    path, family = str(save_backbone(tmp_path, kind)), kind.split("_")[0]
    readout, batch = READOUT.get(kind, "head"), tiny_inputs(kind)
    models = []
    for layers in (None, 3):
        b = load_backbone("b", path, family, readout, layers)
        soft = new_prompt(prompt, b.model, b.family, torch.arange(10, 14))
        torch.manual_seed(0)
        models.append(SoftPromptModel(b.model, b.family, soft, build_readout(b, 2, WORDS)).eval())
    whole, short = models
    if isinstance(whole.prompt, PrefixPrompt):  # a decoder's depends on the encoder's last layer
        for i, name in enumerate(short.prompt.names):
            j = whole.prompt.names.index(name)
            for part in ("keys", "values"):
                getattr(short.prompt, part)[i] = getattr(whole.prompt, part)[j]
    before, keep = whole(**batch), some_keep(whole, vanish=True)
    found, expected = cut(whole, keep, 3), cut(short, keep)
    assert torch.equal(found(**batch), expected(**batch))
    assert trainable_state(found).keys() == trainable_state(expected).keys()
    configs = [to_huggingface(model, "ab").config for model in (found, expected)]
    assert configs[0].backbone == configs[1].backbone and configs[0].kept == configs[1].kept
    assert torch.equal(whole(**batch), before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_skill_and_its_export_need_no_more_layers(tmp_path: Path, kind: str) -> None:
    saved = skill_of_three_layers(tmp_path, kind)
    skill, batch = Skill.load(saved.folder), tiny_inputs(kind)
    assert skill.about.backbone.layers == 3
    with torch.no_grad():
        torch.testing.assert_close(skill.model(**batch), saved.model(**batch))
    whole = whole_model(skill.about)
    assert {shape.name.layer for shape in shapes_of(whole)} == {0, 1, 2, 3}
    assert main([str(saved.folder), str(tmp_path / "out")]) == 0
    alone = SkipForSequenceClassification.from_pretrained(tmp_path / "out")
    assert {block.name.layer for block in alone.blocks()} == {0, 1, 2}
    with torch.no_grad():
        found = alone(**batch).logits
        torch.testing.assert_close(found, saved.model(**batch), atol=1e-5, rtol=1e-5)
