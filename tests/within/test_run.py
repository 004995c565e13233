"""`within=`, from jobs on a tiny backbone to the folder of what is chosen."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import skip_exp
from skip_exp import pipeline, results
from skip_exp.commands import train
from skip_exp.errors import ConfigError, SkipError
from skip_exp.forms import registry
from skip_exp.forms.registry import FORMS, Fp32
from skip_exp.phases.prepare import prepare
from skip_exp.report import frame
from skip_exp.results import PREDICTIONS
from skip_exp.skill.skill import Skill
from skip_exp.within import cuts, measure, run, show
from skip_exp.within.baselines import fit_words
from skip_exp.within.choose import Candidate, Cut, Speed, Split
from tests.api.test_compress import classifier, save
from tests.helpers.saved import Saved, save_tiny_skill
from tests.helpers.toy import SMALL, quick_settings, save_toy, toy_job

LABELS = np.array([0, 1, 0, 1])


def split(labels: np.ndarray = LABELS) -> Split:
    return Split([[f"text {label}"] for label in labels], labels, "accuracy", 2)


def test_uncut_nothing_is_tuned_again(tmp_path: Path) -> None:
    toy = toy_job(save_toy(tmp_path), tmp_path, "out", "prune.layers=1")
    uncut = cuts.of_cut(toy, Cut(0.0))
    cut = cuts.of_cut(toy, Cut(0.9, 1))
    assert (uncut.prune.ratio, cut.prune.ratio) == (0.0, 0.9)
    assert (uncut.prune.layers, cut.prune.layers) == (None, 1)
    assert (uncut.retune.enabled, cut.retune.enabled) == (False, True)
    assert uncut.output_dir != cut.output_dir
    assert cut.tune == uncut.tune == toy.tune  # so that the cache is shared


def test_a_sweep_may_aim_at_the_speed_of_what_is_found(tmp_path: Path) -> None:
    """The jobs of a search are not timed: the search is."""
    asked = ("prune.within=1", "benchmark.enabled=true", "sweep.objective=latency/speedup")
    cfg = toy_job(save_toy(tmp_path), tmp_path, "out", *asked)
    assert not cuts.of_cut(cfg, Cut(0.9)).benchmark.enabled


@pytest.mark.parametrize(
    "other",
    ["retune.enabled=false", "prune.within=2", "prune.fastest=batches", "prune.layers=1", "seed=2"],
)
def test_a_folder_of_another_search_is_refused_before_any_job(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one has chosen stays."""
    toy, keys = save_toy(tmp_path), list[str]()

    def find(*overrides: str) -> None:
        with pytest.raises(SkipError, match="no job"):
            run.find(toy_job(toy, tmp_path, "out", "prune.within=1", *overrides), pytest.fail)

    def stop(*_: Any) -> Any:
        raise SkipError("no job")

    def write_config(cfg: Any, key: str) -> None:
        keys.append(key)
        results.check_folder(cfg.output_dir, key)

    monkeypatch.setattr(run.Search, "try_cuts", stop)
    monkeypatch.setattr(run, "write_config", write_config)
    find()
    results.write(tmp_path / "out", results.Result(job_id=keys[0]))
    find("logger=csv")  # the same search
    with pytest.raises(SkipError, match=r"^output_dir="):
        run.find(toy_job(toy, tmp_path, "out", "prune.within=1", other), pytest.fail)


def test_the_deepest_cut_is_tried_in_half_of_the_layers_too(tmp_path: Path) -> None:
    toy = toy_job(save_toy(tmp_path), tmp_path, "out", "prune.within=1")
    uncut = prepare(cuts.of_cut(toy, Cut(0.0)))
    plain = [Cut(0.9), Cut(0.7), Cut(0.52)]
    assert cuts.list_cuts(uncut, toy.prune) == [Cut(0.9, 1), *plain]  # the fastest first
    shallow = replace(toy.prune, layers=1)
    assert cuts.list_cuts(uncut, shallow) == [Cut(ratio, 1) for ratio, _ in plain]


def test_a_slice_of_one_label_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = SimpleNamespace(select=[], validation=[])
    monkeypatch.setattr(run, "prepare", lambda *_: SimpleNamespace(key="", data=rows))
    monkeypatch.setattr(run.Split, "of", lambda *_: split(np.zeros(4, int)))
    cfg = toy_job(save_toy(tmp_path), tmp_path, "out", "prune.within=1")
    with pytest.raises(ConfigError, match=r"^prune\.within=1.0: "):
        run.find(cfg, pytest.fail)
    assert not (tmp_path / "out").exists()


def test_layers_that_there_are_not_are_refused_before_any_job(tmp_path: Path) -> None:
    cfg = toy_job(save_toy(tmp_path), tmp_path, "out", "prune.within=1", "prune.layers=9")
    with pytest.raises(ConfigError, match=r"^prune\.layers=9: "):
        run.find(cfg, pytest.fail)


class Written(Fp32):
    """A form that has a folder for each skill."""

    name = "written"

    def save(self, skill: Skill, folder: Path) -> Path:
        return skill.save(folder)


class Impossible(Written):
    name = "impossible"

    def save(self, skill: Skill, folder: Path) -> Path:
        raise SkipError("its answers differ")


def test_every_form_is_opened_that_a_skill_has(
    tiny: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = save_tiny_skill(tmp_path, name="other", seed=1).folder
    for skill in (tiny.folder, other):
        saved = measure.save_all(Cut(0.9), skill, [Fp32(), Impossible(), Written()], tmp_path)
        assert [form.name for _, form, _ in saved] == ["fp32", "written"]
    # Another skill of the same cut has another folder, and so has other code.
    assert len([*(tmp_path / "written").iterdir()]) == 2
    monkeypatch.setattr(registry, "code_of", lambda module: f"edited {module}")
    measure.save_all(Cut(0.9), tiny.folder, [Written()], tmp_path)
    assert len([*(tmp_path / "written").iterdir()]) == 3


@pytest.mark.parametrize(
    ("wrong", "tried"),
    [
        ({}, ["0", "0.9"]),
        ({(0.9, "fp32"): 1}, ["0", "0.9", "0.7"]),
        ({(0.9, "int8"): 1}, ["0", "0.9", "0.7"]),  # fp32 keeps the bound, but may be slower
        ({(0.9, "int8"): 1, (0.7, "fp32"): 1, (0.5, "fp32"): 1}, ["0", "0.9", "0.7", "0.5"]),
    ],
)
def test_no_cut_is_tried_below_one_that_keeps_the_bound(
    wrong: dict[tuple[float, str], int],
    tried: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 40 rows no lost answer is within 5.6 points, one within 9.4."""
    rows = split(np.array([0, 1] * 20))
    forms = [Fp32(), FORMS["int8"]]
    monkeypatch.setattr(run, "list_available", lambda: forms)
    monkeypatch.setattr(
        run,
        "save_all",
        lambda cut, *_: [measure.SavedModel(cut, form, tmp_path) for form in forms],
    )

    def predict(model: measure.SavedModel, _: Split) -> np.ndarray:
        labels = rows.labels.copy()
        labels[: wrong.get((model.cut.ratio, model.form.name), 0)] = 1
        return labels

    monkeypatch.setattr(run, "predict", predict)
    cfg = toy_job(save_toy(tmp_path), tmp_path, "out", "prune.within=6")
    data = SimpleNamespace(select=[], validation=[])
    monkeypatch.setattr(run, "prepare", lambda _: SimpleNamespace(data=data))
    monkeypatch.setattr(Split, "of", lambda *_: rows)
    search = run.Search(cfg, lambda _: SimpleNamespace(skill="skill"))
    search.cuts = [Cut(0.0), Cut(0.9), Cut(0.7), Cut(0.5)]
    steps: list[str] = []
    search.announce = steps.append
    search.try_cuts()
    assert [f"{cut.ratio:g}" for cut in search.jobs] == tried
    assert len(steps) == len(tried)
    assert len(search.models) == len(search.candidates) == 2 * len(tried)


def test_no_cut_is_tried_where_the_slice_cannot_show_the_loss(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_toy(tmp_path)
    tried = []

    def stop(search: run.Search) -> Any:
        tried.append(search.cuts)
        raise SkipError("enough")

    monkeypatch.setattr(run.Search, "try_cuts", stop)
    for within in (1, 50):
        with pytest.raises(SkipError, match="enough"):
            skip_exp.fit(
                tmp_path / "train.csv", within=within, output=tmp_path / "out", overrides=settings
            )
    assert tried[0] == [Cut(0.0)] and len(tried[1]) > 1


def test_the_table_compares_with_the_chosen_model(tmp_path: Path) -> None:
    right, wrong = LABELS, np.array([0, 1, 0, 0])
    uncut, rounded = (
        Candidate(Cut(0.0), form, 1.0, 0.0, n) for form, n in (("fp32", 100), ("int8", 400))
    )
    slow, fast = (
        Candidate(Cut(0.9), form, 0.75, 0.0, n) for form, n in (("fp32", 500), ("int8", 900))
    )
    middle = Candidate(Cut(0.5), "int8", 1.0, 0.25, 300.0)
    candidates = [uncut, rounded, slow, fast, middle]
    lines = [show.Line("majority class", 0.5, np.zeros(4, int))]
    lines.append(show.Line(show.TF_IDF, 0.5, LABELS, Speed(0.2, 0.3, 5000.0), 0.1))
    for each, predicted in zip(candidates, (right, right, wrong, wrong, right), strict=True):
        speed, mb = Speed(1000 / each.speed, 20.0, 2 * each.speed), 2.0 if each is fast else 1.0
        made = each.name, each.select, predicted, speed, mb, each
        lines.append(show.Line(*made, is_chosen=each is fast))
    frame = show.to_frame(lines, split())
    by_name = frame.set_index("model")
    assert by_name.loc["majority class", "validation"] == 0.5
    assert by_name.loc["uncut, fp32", "difference"] == 0.25
    assert by_name.loc["90 % cut, int8", "chosen"]
    low, high = by_name.loc["90 % cut, fp32", ["difference_low", "difference_high"]]
    assert (low, high) == (0, 0)  # the same answers on the same rows
    show.write(frame, tmp_path, "accuracy", contended=True)
    written = pd.read_csv(tmp_path / show.CSV)
    assert written["chosen"].sum() == 1 and written["contended"].all()
    told = show.explain(frame, candidates, uncut, 0.01, 4)
    assert any("43.8 points" in each for each in told)  # 1 - 0.1 ** (1 / 4)
    assert any("bound of 25 points" in each for each in told)  # row 3, without an error
    assert any(show.TF_IDF in each for each in show.judge_baselines(frame, contended=False))
    slower = frame.assign(ms=frame["ms"].where(frame["model"] != show.TF_IDF, 50.0))
    assert any(show.TF_IDF in each for each in show.judge_baselines(slower, contended=False))
    worse = slower.assign(difference=-0.25)
    assert show.judge_baselines(worse, contended=False) == []
    told = show.explain(frame, candidates, fast, 1.0, 4)
    assert not any("43.8 points" in each or "bound of" in each for each in told)


def rows_of(train: list[int], validation: list[int], labels: int, metric: str) -> Any:
    """Rows with these labels; the selection slice has those of ``validation``."""
    train_rows, others = ([{"label": label} for label in part] for part in (train, validation))
    task = SimpleNamespace(labels=[f"<{i}>" for i in range(labels)], metrics=[metric])
    return SimpleNamespace(spec=task, train=train_rows, select=others, validation=others)


def test_the_last_lines_say_what_the_rows_cannot_show() -> None:
    uncut, cut = (Candidate(Cut(ratio), "fp32", 1.0, 0.0, 100.0) for ratio in (0.0, 0.5))
    labels, wrong = np.array([0] * 38 + [1] * 2), np.zeros(40, int)
    majority = show.Line("majority class", 0.5, wrong)
    lines = [majority, show.Line(uncut.name, 1.0, labels, candidate=uncut)]
    lines.append(show.Line(cut.name, 1.0, wrong, candidate=cut, is_chosen=True))
    frame = show.to_frame(lines, replace(split(labels), metric="f1_macro"))
    rows = rows_of([0] * 50 + [1] * 9 + [2, 3, 4, 5], [*labels], 6, "f1_macro")
    said = show.explain_rows(frame, rows)
    by_name = frame.set_index("model")
    low, high = by_name.loc[uncut.name, ["difference_low", "difference_high"]]
    loss = f"{-51.28:.2f} points ({-100 * high:+.2f} to {0.0 - 100 * low:+.2f}"
    assert any(loss in sentence for sentence in said)
    untimed = frame.astype({"texts_per_s": float, "mb": float})
    assert show.to_text(untimed, "f1_macro")["accuracy"].tolist() == ["95.0", "100.0", "95.0"]
    assert "accuracy" not in show.to_text(untimed, "accuracy")
    named = [sentence for sentence in said if "<2>, <3>, <4>, and 1 more" in sentence]
    assert len(named) == 2  # of one train row, and not scored; 0 and 1 are well known
    hidden = [sentence for sentence in said if "5.6 points" in sentence]
    assert len(hidden) == 1  # 1 - 0.1 ** (1 / 40), as the limit of a cut that changes no answer
    many = rows_of([0, 1] * 300, [0, 1] * 150, 2, "accuracy")
    (only,) = show.explain_rows(frame, many)
    assert loss in only
    assert show.explain_rows(frame.assign(chosen=frame["model"] == uncut.name), many) == []


def test_tf_idf_takes_texts_and_pairs() -> None:
    texts = [["good film", "yes"], ["bad plot", "no"]] * 10
    rows = Split(texts, np.array([1, 0] * 10), "accuracy", 2)
    words = fit_words(rows)
    assert words is not None and words.predict(texts).tolist() == [1, 0] * 10
    assert words.mb > 0
    assert fit_words(replace(rows, texts=[["."]] * 20)) is None


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*quick_settings(tmp_path_factory.mktemp("backbone")), "retune.copies=0"]


def check_folder(classifier: Any, root: Path, *more: str) -> None:
    """What every run leaves behind."""
    (folder,) = root.glob("*/*/chosen")
    frame = pd.read_csv(folder.parent / show.CSV)
    assert frame["chosen"].sum() == 1
    assert {"majority class", show.TF_IDF, "uncut, fp32", *more} <= {*frame["model"]}
    assert (folder.parent / show.FIGURE).is_file()
    (chosen,) = frame[frame["chosen"]].to_dict("records")
    again = FORMS[chosen["form"]].open(folder)
    texts = ["the film was dull", "the plot was warm"]
    assert again.predict(texts) == classifier.predict(texts)


def test_one_call_finds_a_model(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ratios in fp32, one of them done before; the 8-bit form has its own tests."""
    save_toy(tmp_path)
    out, data = tmp_path / "out", tmp_path / "train.csv"
    plain = skip_exp.fit(data, ratio=0.5, output=out, overrides=settings)
    phases, ran = pipeline.run_phases, []
    monkeypatch.setattr(
        pipeline, "run_phases", lambda job, *rest: ran.append(job) or phases(job, *rest)
    )
    monkeypatch.setattr(run, "list_cuts", lambda *_: [Cut(0.5)])
    monkeypatch.setattr(run, "list_available", lambda: [FORMS["fp32"]])
    model = skip_exp.fit(data, within=50, output=out, overrides=settings)
    check_folder(model, out, show.HEAD)
    assert [job.cfg.prune.ratio for job in ran] == [0]
    rows = frame.load([out])
    rows = rows[~rows["path"].str.contains("/chosen/")]  # a copy of its job's result
    assert len(rows) == 4 and rows["searched"].sum() == 1
    (found,) = rows[rows["searched"]].to_dict("records")
    same = (rows["ratio"] == found["ratio"]) & rows["path"].str.contains("/jobs/")
    (job,) = rows[same].to_dict("records")
    for name in ("metric/final", "select/final", "params/block_pruned"):
        assert found[name] == pytest.approx(job[name]), name
    assert found["latency/speedup"] > 0 or found["contended"]
    assert found["job_id"] not in {*rows.loc[~rows["searched"], "job_id"]}
    read = [pd.read_csv(Path(each["path"]).with_name(PREDICTIONS)) for each in (found, job)]
    assert read[0]["label"].equals(read[1]["label"])
    assert read[0]["predicted"].equals(read[1]["predicted"])
    assert read[0]["probability"].tolist() == pytest.approx(read[1]["probability"], abs=1e-3)
    assert plain.result["job_id"] in {*rows["job_id"]}


def test_a_given_model_is_not_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("the film was dull", "bad"), ("the film was warm", "good")] * 50
    rows = [f"{text}{' ' * i},{label}" for i, (text, label) in enumerate(pairs)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.setattr(run, "list_cuts", lambda *_: [])
    monkeypatch.setattr(run, "list_available", lambda: [FORMS["fp32"]])
    given, out = save(classifier("bert"), tmp_path / "given"), tmp_path / "out"
    model = skip_exp.compress(
        given,
        tmp_path / "train.csv",
        within=1,
        output=out,
        overrides=SMALL,
    )
    assert model.result["ratio"] == 0 and not model.result["config"]["retune"]["enabled"]
    check_folder(model, out)


@pytest.mark.slow  # exports of every ratio
def test_the_command_tries_every_form(
    onnx_packages: None, tmp_path: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_toy(tmp_path)
    out = tmp_path / "out"
    given = [
        str(tmp_path / "train.csv"),
        "--within",
        "50",
        "--for",
        "batches",
        "--output",
        str(out),
        *settings,
    ]
    assert train.train(given) == 0
    (folder,) = out.glob("*/*/chosen")
    found = pd.read_csv(folder.parent / show.CSV)
    names, (form,) = {*found["model"]}, found.loc[found["chosen"], "form"]
    check_folder(FORMS[form].open(folder), out)
    # A toy's 8-bit answers may be too far off: the log names the cut that is left out.
    assert {"uncut, fp32", "uncut, int8", "90 % cut, 1 layer, fp32"} <= names
    assert "was it worth it?" in capsys.readouterr().out
