"""Every comparison compares the same thing: on tiny models, in numbers other than seconds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from skip_exp import results
from skip_exp.bench import (
    attribution,
    baseline,
    forward,
    growth,
    ladder,
    models,
    prefix,
    sweep,
    training,
)
from skip_exp.bench.tables import Options
from skip_exp.bench.timing import Times
from skip_exp.data.encode import EncodedTask
from skip_exp.errors import SkipError
from skip_exp.report.__main__ import write
from skip_exp.skill.skill import Skill
from skip_exp.training.module import PromptTuner
from tests.helpers.saved import save_tiny_skill, tokenizer
from tests.helpers.tiny import HEADS, HIDDEN, LAYERS, VOCAB, tiny_batch, tiny_model

SETTINGS = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 32,
    "initializer_range": 0.2,
}


def config() -> BertConfig:
    return BertConfig(**SETTINGS)  # type: ignore[arg-type]


def encoded(rows: int) -> EncodedTask:
    """Rows of different lengths whose tokens tell them apart."""
    made = [{"input_ids": [2, *[5 + i % 40] * (1 + i % 7), 3], "label": i % 2} for i in range(rows)]
    return EncodedTask(
        spec=SimpleNamespace(metrics=("accuracy",), num_labels=2),  # type: ignore[arg-type]
        train=made,
        select=made[:16],
        validation=made[:4],
        extra={},
        source="none",
        is_sample=False,
        fingerprint="none",
        truncated={},
        majority={},
        tokenizer=tokenizer("bert"),
    )


def test_the_masked_control_computes_what_the_cut_model_computes() -> None:
    final, dense, masked = forward.trio(models.prompted(models.backbone(config())))
    with torch.inference_mode():
        cut, whole, zeroed = (m(**prefix.texts(dense, 4, 12)) for m in (final, dense, masked))
    torch.testing.assert_close(cut, zeroed, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(whole, zeroed, atol=1e-4)


def test_half_of_the_blocks_goes() -> None:
    dense = models.prompted_shape("bert-tiny")
    final = forward.trio(dense)[0]
    sizes = [sum(p.numel() for p in m.backbone.encoder.parameters()) for m in (final, dense)]
    assert sizes[0] / sizes[1] == pytest.approx(1 - models.RATIO, abs=0.03)


def test_no_prompt_is_the_plain_backbone() -> None:
    backbone = models.backbone(config())
    with_prompt, without = models.prompted(backbone, length=4), models.prompted(backbone, "none")
    without.readout.load_state_dict(with_prompt.readout.state_dict())
    inputs = prefix.texts(without, 4, 12)
    assert inputs["attention_mask"].sum(1).tolist() == [6, 8, 10, 12]
    with torch.inference_mode():
        with_prompt(**inputs)  # leaves its prefix behind
        logits = without(**inputs)
        torch.manual_seed(0)  # the same weights, and the library's own attention
        hidden = BertModel(config(), add_pooling_layer=False).eval()(**inputs)
    mask = inputs["attention_mask"][..., None].float()
    mean = (hidden.last_hidden_state * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(logits, without.readout.linear(mean))
    assert not torch.allclose(with_prompt(**inputs), logits, atol=1e-3)


def rows_of(batch: dict[str, Tensor]) -> list[tuple[int, ...]]:
    return [tuple(int(i) for i in row if i) for row in batch["input_ids"]]


def test_both_sides_train_on_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    task = training.first_rows(encoded(200), 96)
    assert len(task.train) == 96 and len(task.select) == training.SELECT
    wanted = sorted(tuple(row["input_ids"]) for row in task.train)
    seen: dict[str, list[Any]] = {"ours": [], "theirs": []}
    step, run = PromptTuner.training_step, baseline.Loop.run

    def watched_step(self: Any, batch: dict[str, Tensor], i: int) -> Tensor:
        seen["ours"] += rows_of(batch)
        return step(self, batch, i)

    def watched_run(self: Any, batches: Any) -> None:
        taken = list(batches)
        seen["theirs"] += [row for batch in taken for row in rows_of(batch)]
        run(self, taken)

    monkeypatch.setattr(PromptTuner, "training_step", watched_step)
    monkeypatch.setattr(baseline.Loop, "run", watched_run)
    backbone = models.backbone(config())
    for kind in ("prefix", "input"):
        seen["ours"].clear()
        assert training.ours(backbone, kind, task, "32-true")() > 0
        assert sorted(seen["ours"]) == wanted
    for at_best in (False, True):
        seen["theirs"].clear()
        assert training.theirs(config(), task, at_best)() > 0
        assert sorted(seen["theirs"]) == wanted


def test_the_baseline_trains_its_prompt_and_classifier_only() -> None:
    pytest.importorskip("peft")
    model = baseline.prompt_tuned(config())
    before = {name: p.clone() for name, p in model.named_parameters()}
    shapes = sorted(tuple(p.shape) for p in baseline.trained(model).values())
    assert shapes == [(2,), (2, HIDDEN), (models.LENGTH, HIDDEN)]
    task = encoded(64)
    loop = baseline.Loop(model, steps=2)
    loop.run(baseline.batches(task.train, 0))
    changed = {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}
    assert changed == set(baseline.trained(model))


@torch.no_grad()
def balance(model: Any, words: Any, texts: list[tuple[str]]) -> None:
    """Set the classifier so that half of the texts get either label, none of them narrowly."""
    linear = next(
        m for n, m in model.named_modules() if n.endswith("classifier.modules_to_save.default")
    )
    linear.weight.normal_(std=20.0)
    ones = [words(text[0], return_tensors="pt") for text in texts]
    gaps = torch.cat([model(**one).logits.diff(dim=1) for one in ones])
    linear.bias[0] += gaps.median()


def test_the_baseline_answers_in_order_whatever_its_batches() -> None:
    pytest.importorskip("peft")
    model, words = baseline.prompt_tuned(config()), tokenizer("bert")
    texts = [(" ".join([f"w{30 + i % 9}"] * (1 + i * 7 % 11)),) for i in range(70)]
    balance(model, words, texts)
    answers = baseline.answer(model, words, texts)
    assert min(answers.count(0), answers.count(1)) > 20  # else the order would not show
    assert baseline.answer(model, words, texts, by_length=True) == answers
    alone = [baseline.answer(model, words, [text])[0] for text in texts]
    assert alone == answers


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A skill, and the folder of its ONNX exports: whoever comes first makes them, in seconds."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    return save_tiny_skill(folder).folder, folder / "work"


def test_every_way_to_serve_a_skill_answers_as_it_predicts(exported: tuple[Path, Path]) -> None:
    folder, work = exported
    texts = [("a good film",), ("the plot was dull",), ("w40 w41",)]
    expected = [answer["label"] for answer in Skill.load(folder).predict(texts)]
    for _ in range(2):  # exported, then found
        steps = ladder.our_steps(dict.fromkeys((0.0, 0.9, 0.95), folder), work)
        cut = [f"{ratio} % cut" for ratio in (90, 95)]
        exports = [f"{name}, onnx {kind}" for kind in ("fp32", "int8") for name in cut]
        assert list(steps) == ["our dense model", *cut, *exports]
        assert [answer(texts) for answer in steps.values()] == [expected] * 7


def finished_job(folder: Path, **fields: Any) -> None:
    folder.mkdir(parents=True)
    growth.invent(folder / "invented", 1)
    (file,) = (folder / "invented").rglob(results.FILE)
    told = json.loads(file.read_text()) | {"backbone": "minilm"} | fields
    (folder / results.FILE).write_text(json.dumps(told))
    shutil.rmtree(folder / "invented")


def test_jobs_that_are_given_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ratio in ladder.RATIOS:
        finished_job(tmp_path / f"jobs/{ratio}", task="toy", ratio=ratio, skill="skill")
    finished_job(tmp_path / "jobs/other", task="other", ratio=0.9, skill="skill")
    finished_job(tmp_path / "jobs/t5", task="toy", ratio=0.9, skill="skill", backbone="t5_mini")
    monkeypatch.setattr(ladder, "job", lambda overrides: pytest.fail(f"ran {overrides}"))
    options = Options(False, tmp_path, tmp_path, (tmp_path / "jobs",))
    expected = {ratio: tmp_path / f"jobs/{ratio}/skill" for ratio in ladder.RATIOS}
    assert ladder.skill_folders("toy", options) == expected
    assert list(ladder.skill_folders("toy", options)) == list(ladder.RATIOS)


def test_jobs_that_are_not_given_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def job(overrides: list[str]) -> None:
        ran.append(overrides)
        for ratio in ladder.RATIOS:
            finished_job(tmp_path / f"ladder-toy/{ratio}", task="toy", ratio=ratio, skill="skill")

    monkeypatch.setattr(ladder, "job", job)
    options = Options(False, tmp_path, tmp_path, tasks=("toy",), conf=tmp_path / "conf")
    assert ladder.skill_folders("toy", options)[0.9] == tmp_path / "ladder-toy/0.9/skill"
    (overrides,) = ran
    assert overrides[:2] == ["--config-dir", str(tmp_path / "conf")]
    assert {"+task=toy", "prune.ratio=0.0,0.52,0.9,0.95", "-m"} <= set(overrides)


def climbed(peft: float, dense: float, cut: float, int8: float) -> ladder.Ladder:
    """Four steps on ten texts that take 10, 5, 2 and 1 seconds and score what is given."""
    names, texts = [ladder.PEFT, "dense", "cut", "int8"], [("a",)] * 10
    times = Times([[10.0] * 3, [5.0] * 3, [2.0] * 3, [1.0] * 3], contended=False)
    scores = dict(zip(names, (peft, dense, cut, int8), strict=True))
    work = ladder.Work("toy, 10 texts", texts, ["b"] * 10)
    return ladder.Ladder(work, names[:1], names[1:], times, scores)


def test_every_step_is_compared_with_the_one_before() -> None:
    rows = climbed(0.8, 0.8, 0.8, 0.8).climbed()
    assert [row.name for row in rows] == [ladder.PEFT, "dense", "cut", "int8"]
    assert [row.ours for row in rows] == [1.0, 2.0, 5.0, 10.0]
    assert [row.theirs for row in rows] == [None, 1.0, 2.0, 5.0]
    assert [row.ratio for row in rows] == [None, 2.0, 2.5, 2.0]


def test_exports_are_compared_with_the_same_model() -> None:
    made = climbed(0.8, 0.8, 0.8, 0.8)
    rows = replace(made, ours=["dense", "cut", "dense, onnx int8"]).climbed()
    assert [row.theirs for row in rows] == [None, 1.0, 2.0, 2.0]


def test_what_is_cut_is_scored_against_the_better_of_two() -> None:
    rows = climbed(peft=0.80, dense=0.84, cut=0.83, int8=0.82).scored()
    assert [row.ratio for row in rows] == pytest.approx([-4.0, 0.0, -1.0, -2.0])
    assert [row.met for row in rows] == [None, None, True, False]
    assert all(row.theirs == pytest.approx(84.0) for row in rows)
    rows = climbed(peft=0.85, dense=0.84, cut=0.83, int8=0.85).scored()
    assert [row.met for row in rows] == [None, None, False, True]


def test_the_fastest_that_scores_well_enough_is_compared_with_peft() -> None:
    rows = climbed(0.80, 0.84, 0.83, 0.84).reached()
    assert [row.name for row in rows] == [f"int8, against {ladder.PEFT}"] * 2
    assert [row.ratio for row in rows] == [10.0, 10.0]
    assert [row.met for row in rows] == [False, True]  # 30 and 10
    rows = climbed(0.80, 0.84, 0.83, 0.82).reached()
    assert [row.name for row in rows] == [f"cut, against {ladder.PEFT}"] * 2
    assert [row.ratio for row in rows] == [5.0, 5.0]
    assert climbed(0.9, 0.8, 0.8, 0.8).reached() == []
    assert ladder.accuracy(["a", "b", "a"], ["a", "a", "a"]) == pytest.approx(2 / 3)


def test_single_texts_are_the_same_for_all(exported: tuple[Path, Path], tmp_path: Path) -> None:
    seen: list[str] = []

    def peft(texts: Any) -> list[str]:
        seen.extend(text for (text,) in texts)
        return ["no"] * len(texts)

    work = ladder.Work("toy", [("a good film",), ("dull",)], ["no", "no"])
    folder, exports = exported
    rows = ladder.single_texts(work, peft, folder, Options(True, tmp_path, exports))
    assert seen[-2:] == ["a good film", "dull"] and set(seen) == set(seen[-2:])
    names = ["torch, fp32", "torch, bf16", "onnx, fp32", "onnx, int8"]
    assert [row.name for row in rows[::2]] == [f"one text, {name}" for name in names]
    assert [row.name for row in rows[1::2]] == [
        f"one text, {name}, 99th percentile" for name in names
    ]
    assert all(row.ours >= median.ours for median, row in zip(rows[::2], rows[1::2], strict=True))  # type: ignore[operator]


def test_steps_of_training() -> None:
    times = Times([[8.0] * 2, [4.0] * 2, [2.0] * 2, [1.0] * 2], contended=False)
    rows = training.climbed("toy", times, 16, "bf16")
    assert [row.name for row in rows[:2]] == ["PEFT, fp32, shuffled", "PEFT, bf16, by length"]
    assert [row.ours for row in rows] == [2.0, 4.0, 8.0, 16.0, 8.0, 8.0, 16.0, 16.0]
    assert [row.ratio for row in rows] == [None, 2.0, 2.0, 2.0, 4.0, 2.0, 8.0, 4.0]
    assert [row.met for row in rows] == [None] * 4 + [True, None, True, None]


def test_captum_and_ours_score_alike() -> None:
    pytest.importorskip("captum")
    model, batches = tiny_model(), [tiny_batch(seed=0), tiny_batch(seed=1, rows=3)]
    theirs = attribution.captum_gradients(model, batches)
    ours = attribution.activation_gradient.scores(model, batches, **attribution.SUMMED)
    assert theirs.keys() == ours.keys()
    assert attribution.difference(ours, theirs) < 1e-5
    assert not any(p.requires_grad for p in model.backbone.parameters())
    theirs = attribution.captum_integrated(model, batches, steps=6)
    score = attribution.integrated_gradients.scores
    ours = score(model, batches, steps=6, **attribution.SUMMED)
    assert attribution.difference(ours, theirs) < 1e-4
    other = score(model, batches, steps=1, **attribution.SUMMED)
    assert attribution.difference(other, theirs) > 1e-4


def test_differences_are_relative_to_the_largest_score() -> None:
    theirs = {"a": torch.tensor([1.0, 2.5]), "b": torch.tensor([0.0])}
    ours = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.25])}
    assert attribution.difference(ours, theirs) == pytest.approx(0.2)


def test_the_overhead_is_what_no_phase_names() -> None:
    one = sweep.Command(wall=60.0, phases=52.0, jobs=1, contended=False)
    many = sweep.Command(wall=100.0, phases=88.0, jobs=3, contended=False)
    assert (one.outside, many.outside) == (8.0, 12.0)
    rows = sweep.compared(one, replace(many, contended=True), "rte")
    assert (rows[0].ours, rows[0].theirs, rows[0].ratio) == (100.0, 60.0, pytest.approx(5 / 3))
    # In a further job's the start of the process is no part: it is in both commands, once.
    assert [row.ours for row in rows[1:]] == [4.0, 2.0, 8.0]
    assert all(row.contended for row in rows)
    assert [row.met for row in sweep.compared(one, many, "rte")] == [True, False, True, False]
    assert sweep.phases({"seconds": {"tune": 2.0, "test": 1.5, "total": 9.0}}) == 3.5


def test_the_sweep_reads_the_first_rows(tmp_path: Path) -> None:
    source = tmp_path / "all" / "rte"
    source.mkdir(parents=True)
    for split in ("train", "validation"):
        lines = [json.dumps({"sentence1": f"{split} {i}"}) for i in range(sweep.ROWS + 5)]
        (source / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    few = sweep.first_rows(tmp_path / "all", tmp_path / "few") / "rte"
    train = (few / "train.jsonl").read_text().splitlines()
    assert len(train) == sweep.ROWS and "train 0" in train[0]
    assert (few / "validation.jsonl").read_text() == (source / "validation.jsonl").read_text()
    (source / "train.jsonl").unlink()
    with pytest.raises(SkipError, match=r"SKIP_EXP_DATA: needs .*train\.jsonl"):
        sweep.first_rows(tmp_path / "all", tmp_path / "none")


def test_how_linear_a_sweep_is() -> None:
    row = growth.job_row([10.0, 12.0, 14.0, 16.0, 20.0], contended=False)
    assert (row.ours, row.ratio) == (2.5, 1.5)
    assert growth.job_row([10.0, 12.0], contended=False).ratio is None


def test_invented_results_can_be_reported(tmp_path: Path) -> None:
    growth.invent(tmp_path / "results", 24)
    invented = results.load(tmp_path / "results")
    settings = {(result["task"], result["ratio"], result["seed"]) for result in invented}
    assert len(invented) == len(settings) == 24
    write([str(tmp_path / "results")], tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_picture_is_800_pixels_wide_and_the_same_again(tmp_path: Path) -> None:
    lines = pd.DataFrame({"one": [1.0, 2.0]}, pd.Index([1, 10], name="x"))
    panel = growth.Panel("A", "y", lines, log_x=True)
    panels = [panel, replace(panel, log_x=False), replace(panel, log_y=True), panel]
    for name in ("first", "second"):
        growth.draw(tmp_path / name, panels)
    content = (tmp_path / "first").read_bytes()
    assert (tmp_path / "second").read_bytes() == content
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (800, 640)
