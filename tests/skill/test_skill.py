"""The skill file: what is saved comes back exactly, and nothing else is ever loaded."""

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from skip_exp import Skill
from skip_exp.backbones import load as backbones
from skip_exp.backbones.load import load_backbone
from skip_exp.config.schema import DataConfig
from skip_exp.data.batches import collate, tokenize
from skip_exp.data.given import build_all, to_table
from skip_exp.errors import SkipError
from skip_exp.models.trained import skill_parameters
from skip_exp.skill.files import save_skill, write_skill
from skip_exp.skill.record import checksum, find_skill
from tests.helpers.saved import Saved, save_backbone, save_tiny_skill
from tests.helpers.toy import rarely

TEXTS = ["a warm film", "dull", "the plot is long and the film was not funny", "very good", "bad"]


@pytest.mark.parametrize(
    ("kind", "prompt", "readout"),
    [
        ("bert", "prefix", "head"),
        ("bert", "input", "mlm"),
        ("roberta", "prefix", "mlm"),
        ("roberta", "input", "head"),
        ("modernbert", "prefix", "head"),
        ("modernbert", "input", "mlm"),
        ("t5", "prefix", "head"),
        ("t5", "prefix", "seq2seq"),
        ("t5_gated", "input", "seq2seq"),
    ],
)
def test_a_loaded_skill_is_the_model_that_was_saved(
    tmp_path: Path, kind: str, prompt: str, readout: str
) -> None:
    saved = save_tiny_skill(tmp_path, kind, prompt, readout)
    load_backbone.cache_clear()
    skill = Skill.load(str(saved.folder))
    assert skill.about == saved.about
    rows, _ = tokenize(skill.tokenizer, [[text] for text in TEXTS], 24)
    batch = collate(rows, skill.tokenizer.pad_token_id)
    with torch.no_grad():
        expected = saved.model(**batch)
        assert torch.equal(skill.model(**batch), expected)
    answers = skill.predict(TEXTS)
    found = torch.tensor([list(a["probabilities"].values()) for a in answers])
    torch.testing.assert_close(found, expected.softmax(-1))
    assert [a["label"] for a in answers] == [skill.about.labels[i] for i in expected.argmax(-1)]
    assert len({a["probabilities"]["positive"] for a in answers}) == len(TEXTS)
    shrunk = {name: tuple(p.shape) for name, p in skill.model.named_parameters()}
    assert shrunk == {name: tuple(p.shape) for name, p in saved.model.named_parameters()}


def test_any_number_of_texts_in_any_order(tiny: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    skill = Skill.load(tiny.folder)
    answers = skill.predict(TEXTS)
    assert skill.predict(text for text in TEXTS) == skill.predict(pd.Series(TEXTS)) == answers
    assert skill.predict(pd.DataFrame({"n": range(len(TEXTS)), "sentence": TEXTS})) == answers
    assert list(skill.stream(iter(TEXTS))) == answers
    assert (skill.predict([]), skill.probabilities([])) == ([], [])
    monkeypatch.setattr("skip_exp.skill.classifier.CHUNK", 7)
    many = TEXTS * 4 + ["", "w3 " * 60]  # nothing, and more than max_length
    one_by_one = [skill.predict([text])[0]["probabilities"]["positive"] for text in many]
    for tokens in (1, 30, 100_000):
        monkeypatch.setattr(Skill, "batch_tokens", tokens)
        found = skill.predict(many)
        assert [a["probabilities"]["positive"] for a in found] == pytest.approx(
            one_by_one, abs=1e-5
        )


def test_rows_are_filled_into_the_tasks_templates(tmp_path: Path) -> None:
    text = ("{word} : {first}", "second")
    skill = Skill.load(save_tiny_skill(tmp_path, text=text).folder)
    row = {"word": "film", "first": "a dull film", "second": "very long", "idx": 3}
    assert skill.predict([row]) == skill.predict([("film : a dull film", "very long")])
    with pytest.raises(SkipError, match=r"^example 2: .*'second'"):
        skill.predict([row, {"word": "film", "first": "it"}])


def test_a_skill_is_found_again_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_tiny_skill(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    home = Skill.load("~/skill")
    monkeypatch.chdir(tmp_path)
    here = Skill.load("skill")
    monkeypatch.chdir("/")
    for number, skill in enumerate((home, here)):
        copy = Skill.load(skill.save(tmp_path / f"copy{number}"))
        assert copy.about == saved.about
    assert len({home, here}) == 2  # a skill can be a key


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ("a film", "list"),
        ({"sentence": "a film"}, "list"),
        (None, "list.*None"),
        (b"a film", "list.*b'a film'"),
        (pd.DataFrame({"text": ["a"]}), "'sentence' in the data frame.*text"),
        (pd.DataFrame([["a", "b"]], columns=["sentence"] * 2), "^2 columns 'sentence'"),
        (["a film", ("a", "b")], r"example 2: .*sentence.*2"),
        ([None], "example 1: None"),
        (["a film", 3], "example 2: 3"),
        ([b"a film"], "example 1: b'a film'"),
        ([{"a film"}], "example 1: {'a film'}"),
        ([[3]], "example 1: 3"),
        (["\ud83d"], r"example 1: .*'\\ud83d'"),
        ([{"text": "a"}], r"example 1: .*'sentence'.*text"),
        ([{"sentence": None}], r"example 1: .*'sentence'.*null"),
        (pd.DataFrame({"sentence": ["a", math.nan]}), "example 2: .*'sentence'"),
        ([{"sentence": math.nan}], "example 1: .*'sentence'.*nan"),
        ([{"sentence": pd.NaT}], "example 1: .*'sentence'.*NaT"),
        ([{"sentence": pd.NA}], "example 1: .*'sentence'.*<NA>"),
        ([{"sentence": ["a"]}], r"example 1: .*'sentence'.*\['a'\]"),
    ],
)
def test_examples_that_do_not_fit(tiny: Saved, examples: Any, message: str) -> None:
    skill = Skill.load(tiny.folder)
    with pytest.raises(SkipError, match=message):
        skill.predict(examples)


def test_every_row_of_a_frame_comes_back_the_bad_ones_named(tiny: Saved) -> None:
    skill = Skill.load(tiny.folder)
    texts = [None, "a warm film", float("nan"), "dull"]
    frame = pd.DataFrame(
        {"label": [1, 2, 3, 4], "sentence": texts}, index=[9, 8, 7, 6], dtype=object
    )
    found = skill.annotate(frame)
    assert found[["label", "sentence"]].equals(frame)
    assert [*found["error"].isna()] == [False, True, False, True]
    assert "'sentence' is empty" in found["error"][9]
    for row, answer in zip((8, 6), skill.predict(["a warm film", "dull"]), strict=True):
        assert found["predicted"][row] == answer["label"]
        assert found["probability"][row] == max(answer["probabilities"].values())
    assert found["predicted"].isna().sum() == found["probability"].isna().sum() == 2
    with pytest.raises(SkipError, match=r"no columns 'sentence'"):
        skill.annotate(frame[["label"]])


@pytest.mark.parametrize("text", [("{subject}: {body}",), ("subject", "body")])
@pytest.mark.parametrize("missing", [None, math.nan, pd.NA, pd.NaT])
def test_a_frame_with_missing_cells_has_the_same_answers_everywhere(
    tmp_path: Path, text: tuple[str, ...], missing: Any
) -> None:
    skill = Skill.load(save_tiny_skill(tmp_path, text=text).folder)
    cells = {
        "subject": ["a film", missing, "dull", missing],
        "body": ["very long", "a plot", missing, "funny"],
        "label": ["negative", "positive"] * 2,
    }
    frame = pd.DataFrame(cells, dtype=object)
    plain = frame.where(frame.notna(), "")
    answers = skill.predict(frame)
    assert answers == skill.predict(plain.to_dict("records"))
    likeliest = [max(answer["probabilities"].values()) for answer in answers]
    annotated = skill.annotate(frame)
    assert [*annotated["predicted"]] == [answer["label"] for answer in answers]
    assert [*annotated["probability"]] == likeliest
    assert annotated["error"].isna().all()
    scores = skill.evaluate(frame)
    right = [answer["label"] == true for answer, true in zip(answers, frame["label"], strict=True)]
    assert (scores["rows"], scores["accuracy"]) == (4, sum(right) / 4)
    for error in scores["errors"]:
        assert error["probability"] == pytest.approx(likeliest[error["row"] - 1])
    table = to_table(frame, text, "label", DataConfig())  # as fit and compress do
    trained_on, _ = build_all(table.rows, text)
    expected, _ = build_all(plain.to_dict("records"), text)
    assert trained_on == expected


def test_no_more_than_a_chunk_of_examples_is_held(
    tiny: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skip_exp.skill.classifier.CHUNK", 50)
    made = 0

    def examples() -> Iterator[str]:
        nonlocal made
        for _ in range(500):
            made += 1
            yield "a dull film"

    answers = Skill.load(tiny.folder).stream(examples())
    ahead = [made - answered for answered, _ in enumerate(answers)]
    assert (len(ahead), max(ahead), made) == (500, 50, 500)


def test_skills_share_one_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        save_tiny_skill(tmp_path, name="one", vanish=True, seed=1).folder,
        save_tiny_skill(tmp_path, name="two", vanish=False, seed=2).folder,
    ]
    load_backbone.cache_clear()
    reads: list[str] = []
    read = backbones.read
    monkeypatch.setattr(backbones, "read", lambda *args: reads.append(args[0]) or read(*args))
    one, two = (Skill.load(folder) for folder in folders)
    assert len(reads) == 1

    def memory(skill: Skill) -> dict[str, int]:
        return {n: p.data_ptr() for n, p in skill.model.named_parameters() if p.numel()}

    shared = memory(one).items() & memory(two).items()
    assert {name for name, _ in shared} >= {
        "backbone.embeddings.word_embeddings.weight",
        "backbone.encoder.layer.0.attention.output.LayerNorm.weight",
    }
    alone = [skill.predict(TEXTS) for skill in (one, two)]
    assert alone[0] != alone[1]
    assert [skill.predict(TEXTS) for skill in (one, two, one)] == [*alone, alone[0]]
    assert len(reads) == 1


@pytest.mark.parametrize("train", ["prompt_readout", "bias", "gates", "lora"])
@pytest.mark.parametrize("kind", ["bert", "modernbert", *rarely("t5_gated")])
def test_biases_and_updates_are_the_skills_own(tmp_path: Path, kind: str, train: str) -> None:
    plain = save_tiny_skill(tmp_path, kind, name="plain")
    expected = Skill.load(plain.folder).predict(TEXTS)
    saved = save_tiny_skill(tmp_path, kind, name="own", vanish=False, train=train)
    load_backbone.cache_clear()
    skill, other = Skill.load(saved.folder), Skill.load(plain.folder)
    batch = collate(tokenize(skill.tokenizer, [[t] for t in TEXTS], 24)[0], 0)
    with torch.no_grad():
        assert torch.equal(skill.model(**batch), saved.model(**batch))
    assert other.predict(TEXTS) == expected


def test_a_backbone_that_has_moved(tmp_path: Path) -> None:
    saved = save_tiny_skill(tmp_path)
    expected = Skill.load(saved.folder).predict(TEXTS)
    moved = saved.backbone.rename(tmp_path / "elsewhere")
    load_backbone.cache_clear()
    with pytest.raises(SkipError, match=r"backbone bert .*backbone\.path=.*"):
        Skill.load(saved.folder)
    assert Skill.load(saved.folder, backbone=moved).predict(TEXTS) == expected


def test_a_graph_beside_a_checkpoint_makes_it_no_export(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.onnx").write_bytes(b"")
    assert find_skill(tmp_path) == tmp_path


def _edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Saved], None]:
    def damage(saved: Saved) -> None:
        path = saved.folder / "skill.json"
        described = json.loads(path.read_text())
        change(described)
        path.write_text(json.dumps(described))

    return damage


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Saved], None]:
    def damage(saved: Saved) -> None:
        path = (saved.folder if name.startswith("skill") else saved.backbone) / name
        path.write_bytes(change(path.read_bytes()))

    return damage


def _forge(**changes: Any) -> Callable[[Saved], None]:
    """Fields or tensors that do not belong there, under a checksum that is right."""

    def damage(saved: Saved) -> None:
        about = {k: v for k, v in (saved.about.stored() | changes).items() if v is not None}
        tensors: dict[str, torch.Tensor] = dict(skill_parameters(saved.model))
        tensors |= {f"keep/{site}": kept for site, kept in saved.keep.items()}
        write_skill(saved.folder, tensors | about.pop("state", {}), about)

    return damage


def _keep(*indices: Any, site: str = "encoder.0.ffn") -> Callable[[Saved], None]:
    kept = indices[0] if isinstance(indices[0], torch.Tensor) else torch.tensor(indices)
    return _forge(state={f"keep/{site}": kept})


def _cut_tensors(left: int) -> Callable[[Saved], None]:
    def damage(saved: Saved) -> None:
        path = saved.folder / "skill.safetensors"
        path.write_bytes(path.read_bytes()[:left])
        about = saved.about.stored()
        head = {"version": 1, "sha256": checksum(path.read_bytes(), about)}
        (saved.folder / "skill.json").write_text(json.dumps(head | about))

    return damage


def _another_backbone(saved: Saved) -> None:
    save_backbone(saved.backbone, "bert", seed=5)


def _prompt(**changes: Any) -> Callable[[Saved], None]:
    return lambda saved: _forge(prompt=saved.about.prompt.model_dump() | changes)(saved)


def _backbone(**changes: Any) -> Callable[[Saved], None]:
    return lambda saved: _forge(backbone=saved.about.stored()["backbone"] | changes)(saved)


DAMAGES: dict[str, tuple[Callable[[Saved], Any], str]] = {
    "no json": (lambda s: (s.folder / "skill.json").unlink(), "skill.json: cannot be read"),
    "no tensors": (lambda s: (s.folder / "skill.safetensors").unlink(), "cannot be read: No such"),
    "json cut": (_bytes("skill.json", lambda b: b[:100]), "not JSON"),
    "tensors cut": (_bytes("skill.safetensors", lambda b: b[:-8]), "checksum"),
    "a bit flipped": (_bytes("skill.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 1])), "checks"),
    "labels swapped": (_edit(lambda d: d["labels"].reverse()), "checksum"),
    "five": (_bytes("skill.json", lambda b: b"5"), "not a skill"),
    "null": (_bytes("skill.json", lambda b: b"null"), "not a skill"),
    "a list": (_bytes("skill.json", lambda b: b"[" + b + b"]"), "not a skill"),
    "a text": (_bytes("skill.json", lambda b: b'"version"'), "not a skill"),
    "no text": (_bytes("skill.json", lambda b: b"\xff\xfe"), "not JSON"),
    "too deep": (_bytes("skill.json", lambda b: b"[" * 10**5), "not JSON"),
    "newer version": (_edit(lambda d: d.update(version=2)), "version 2 .* 1"),
    "no version": (_edit(lambda d: d.pop("version")), "no version"),
    "field missing": (_forge(labels=None), "field labels: "),
    "unknown field": (_forge(more=1), "field more: "),
    "length true": (_prompt(length=True), "field prompt.length: "),
    "length short": (_prompt(length=3), r"prompt.keys.0 is \(4, .*\), not \(3, "),
    "length below zero": (_prompt(length=-1), "field prompt.length: "),
    "no text column": (_forge(text=[]), "field text: "),
    "three text columns": (_forge(text=["a", "b", "c"]), "field text: "),
    "one label": (_forge(labels=["positive"]), "field labels: "),
    "two equal labels": (_forge(labels=["positive", "positive"]), "labels: "),
    "another number of words": (_forge(words=["yes"]), "words: "),
    "kind unknown": (_forge(kind="zzz"), "field kind: "),
    "no threshold": (_forge(kind="many_labels"), "threshold: "),
    "threshold of two": (_forge(kind="many_labels", threshold=2.0), "field threshold: "),
    "temperature below zero": (_forge(temperature=-1.0), "field temperature: "),
    "temperature zero": (_forge(temperature=0.0), "field temperature: "),
    "temperature nan": (_forge(temperature=math.nan), "field temperature: "),
    "temperature infinite": (_forge(temperature=math.inf), "field temperature: "),
    "no tokens": (_forge(max_length=0), "field max_length: "),
    "no layers": (_backbone(layers=0), "field backbone.layers: "),
    "no rank": (_forge(train="lora", rank=0), "field rank: "),
    "readout unknown": (_backbone(readout="zzz"), "could not be loaded"),
    "tensors cut under a right checksum": (_cut_tensors(-8), "skill.safetensors: cannot be used"),
    "tensors empty under a right checksum": (_cut_tensors(0), "safetensors: cannot be used"),
    "an index too large": (_keep(4, 5, 20), "keep/encoder.0.ffn: "),
    "an index below zero": (_keep(-1, 5), "keep/encoder.0.ffn: "),
    "an index twice": (_keep(4, 4), "keep/encoder.0.ffn: "),
    "indices in another order": (_keep(5, 4), "keep/encoder.0.ffn: "),
    "an index without a list": (_keep(torch.tensor(4)), "cannot be used"),
    "indices of no site": (_keep(1, site="encoder.7.ffn"), "keep/encoder.7.ffn: "),
    "indices of no name": (_keep(1, site="zzz"), "zzz"),
    "unknown prompt": (_prompt(kind="foo"), "field prompt.kind: "),
    "train unknown": (_forge(train="all"), "field train: "),
    "another train": (_forge(train="lora", rank=2), "is nothing, not "),
    "more layers than there are": (_backbone(layers=3), "is not the skill's backbone"),
    "fewer layers": (_backbone(layers=1), "is not the skill's backbone"),
    "family unknown": (_backbone(family="gpt"), "backbone.family=gpt: "),
    "a tensor of another shape": (
        _forge(state={"readout.linear.bias": torch.zeros(1)}),
        r"readout.linear.bias is \(1,\), not \(2,\)",
    ),
    "a tensor too many": (_forge(state={"prompt.x": torch.zeros(1)}), "prompt.x is .*not nothing"),
    "weights changed": (_another_backbone, "is not the skill's backbone"),
    "heads changed": (
        _bytes("config.json", lambda b: b.replace(b'heads": 3', b'heads": 2')),
        "has changed",
    ),
    "weights cut": (_bytes("model.safetensors", lambda b: b[:-50]), "cannot be loaded"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_right_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    saved = save_tiny_skill(tmp_path)
    Skill.load(saved.folder)
    load_backbone.cache_clear()
    change, message = DAMAGES[damage]
    change(saved)
    with pytest.raises(SkipError, match=message) as caught:
        Skill.load(saved.folder)
    assert str(caught.value).startswith(str(saved.folder))
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save_tiny_skill(tmp_path)
    load_backbone.cache_clear()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    for place in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(*place, refuse)
    Skill.load(saved.folder).predict(TEXTS)
    assert {file.name for file in saved.folder.iterdir()} == {"skill.json", "skill.safetensors"}


def test_a_write_that_is_cut_short_leaves_no_wrong_skill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_tiny_skill(tmp_path)
    before = Skill.load(saved.folder).predict(TEXTS)
    changed = saved.about.changed(labels=["bad", "good"])
    saved.model.readout.linear.bias.data += 1  # type: ignore[union-attr, operator]
    rename = os.replace

    def only(names: set[str]) -> Callable[..., None]:
        def replace_some(source: Path, target: Path) -> None:
            if target.name not in names:
                raise OSError("disk full")
            rename(source, target)

        return replace_some

    for names in (set(), {"skill.safetensors"}):
        with monkeypatch.context() as patch, pytest.raises(SkipError, match="skill"):
            patch.setattr(os, "replace", only(names))
            save_skill(saved.folder, saved.model, saved.keep, changed)
        assert len(list(saved.folder.iterdir())) == 2
        if not names:
            assert Skill.load(saved.folder).predict(TEXTS) == before
    with pytest.raises(SkipError, match="checksum"):
        Skill.load(saved.folder)
    save_skill(saved.folder, saved.model, saved.keep, changed)
    assert Skill.load(saved.folder).about.labels == ["bad", "good"]
