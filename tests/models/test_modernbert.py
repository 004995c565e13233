"""ModernBERT: the library's numbers, windows and rotations."""

from pathlib import Path

import pytest
import torch
from transformers import ModernBertForSequenceClassification, ModernBertModel

from skip_exp import SkipForSequenceClassification
from skip_exp.models.family_modernbert import ModernBert, local_mask, rotate, split
from skip_exp.models.prompts import NoPrompt
from skip_exp.models.readouts import ClassifierReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.huggingface import to_huggingface
from tests.helpers.tiny import VOCAB, tiny_backbone, tiny_model, tiny_modernbert, tiny_readout

FAMILY = ModernBert()


def long_batch(rows: int = 3, length: int = 40) -> dict[str, torch.Tensor]:
    """Texts of up to ten windows, padded on the right."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(12, VOCAB, (rows, length), generator=generator)
    ends = torch.tensor([length, length - 7, 5])[:rows]
    mask = (torch.arange(length) < ends[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


# --- by hand --------------------------------------------------------------------------------------


def test_dims_i_and_i_plus_half_turn_together() -> None:
    x = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 4)  # pairs (1, 3) and (2, 4)
    quarter = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])  # a quarter turn, and none
    assert rotate(x, *quarter).flatten().tolist() == [-3, 2, 1, 4]


def test_a_window_hides_what_is_far_but_no_prefix() -> None:
    cpu = torch.device("cpu")
    assert local_mask(4, 3, None, 0, cpu) is None  # nothing is that far away
    mask = torch.zeros(1, 1, 1, 4)
    assert local_mask(4, 3, mask, 0, cpu) is mask
    found = local_mask(4, 1, None, 2, cpu)
    assert found is not None
    hidden = [[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert (found[0, 0] / -1e4).tolist() == [[0, 0, *row] for row in hidden]
    padded = torch.tensor([0.0, 0, 0, 0, 0, -1e4]).view(1, 1, 1, 6)
    both = local_mask(4, 1, padded, 2, cpu)
    assert both is not None and (both[0, 0, 0] / -1e4).tolist() == [0, 0, 0, 0, 1, 2]


def test_split_linears_share_their_memory() -> None:
    fused = torch.nn.Linear(2, 6)
    parts = split(fused, 3)
    assert [part.out_features for part in parts] == [2, 2, 2]
    assert torch.cat([part.weight for part in parts]).equal(fused.weight)
    assert parts[1].bias.equal(fused.bias[2:4])
    assert parts[0].weight.data_ptr() == fused.weight.data_ptr()
    assert split(torch.nn.Linear(2, 6, bias=False), 2)[1].bias is None


# --- as the library -------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
        {"num_hidden_layers": 5, "global_attn_every_n_layers": 2, "local_attention": 4},
        {"layer_types": ["full_attention"] * 2},
    ],
    ids=["plain", "biases", "five layers", "no window"],
)
def test_hidden_states_of_long_texts_are_the_librarys(more: dict, implementation: str) -> None:
    torch.manual_seed(0)
    plain, batch = ModernBertModel(tiny_modernbert(**more)).eval(), long_batch()
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = plain(**batch).last_hidden_state[real]
        family = FAMILY.prepare(plain)
        model = SoftPromptModel(family, FAMILY, NoPrompt(), torch.nn.Identity())  # type: ignore[arg-type]
        model.set_attention(implementation)
        embeds = plain.get_input_embeddings()(batch["input_ids"])
        mask = (1.0 - real[:, None, None].float()) * -1e4
        found = FAMILY.encode(plain, embeds, mask, None)[real]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_an_input_prompt_shifts_positions_and_windows_as_other_tokens() -> None:
    model, batch = tiny_model("modernbert", "input", "mlm"), long_batch()
    plain = tiny_backbone("modernbert")
    ids = model.readout.text_ids(batch["input_ids"])
    words = plain.get_input_embeddings()(ids)
    soft = model.prompt.embedding.detach().expand(len(ids), -1, -1)
    mask = model.encoder_mask(batch["attention_mask"])
    with torch.no_grad():
        expected = plain(inputs_embeds=torch.cat([soft, words], 1), attention_mask=mask).logits
        found = model(**batch)
    expected = expected[:, 4 + 1, model.readout.word_ids]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_classifier_and_its_export_answer_as_the_library(pooling: str) -> None:
    torch.manual_seed(0)
    config = tiny_modernbert(classifier_pooling=pooling, num_labels=3)
    plain, batch = ModernBertForSequenceClassification(config).eval(), long_batch()
    readout = ClassifierReadout.build(plain, FAMILY, 3)
    with torch.no_grad():
        expected = plain(**batch).logits
        model = SoftPromptModel(FAMILY.prepare(plain), FAMILY, NoPrompt(), readout).eval()
        torch.testing.assert_close(model(**batch), expected, atol=1e-5, rtol=1e-5)
        alone = to_huggingface(model, ["a", "b", "c"])
        torch.testing.assert_close(alone(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_an_export_has_rotations_and_biases_of_any_kind(tmp_path: Path) -> None:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}
    settings = {"rope_parameters": {"full_attention": scaled, "sliding_attention": dict(scaled)}}
    for more in (settings, {"attention_bias": True}):
        plain = FAMILY.prepare(ModernBertModel(tiny_modernbert(**more)))
        model = SoftPromptModel(plain, FAMILY, NoPrompt(), tiny_readout("modernbert", "head"))
        to_huggingface(model.eval(), ["a", "b", "c"]).save_pretrained(tmp_path)
        alone = SkipForSequenceClassification.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            torch.testing.assert_close(alone(**long_batch()).logits, model(**long_batch()))


# --- prefixes -------------------------------------------------------------------------------------


def test_a_prefix_is_in_sight_of_the_end_of_a_long_text() -> None:
    model, batch = tiny_model("modernbert", "prefix", "head"), long_batch(1)
    local = model.attentions()["encoder.1.self"]
    seen: list[torch.Tensor] = []
    local.Wo.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0][0, -1]))
    with torch.no_grad():
        for _ in range(2):
            model(**batch)
            model.prompt.values[1] += 1.0  # of the local layer
    assert (seen[0] - seen[1]).abs().max() > 1e-3
