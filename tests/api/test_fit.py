"""`skip_exp.fit` and what it returns, on a tiny backbone; `skip-exp train`, the same by command."""

import gzip
import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset

import skip_exp
from skip_exp import Skill, pipeline, results
from skip_exp.api.fit import LOG_FILE, compose_job
from skip_exp.api.task import find_classes
from skip_exp.commands import train
from skip_exp.config.compose import compose_config, job_of
from skip_exp.config.schema import DataConfig
from skip_exp.data.given import to_table
from skip_exp.data.read import Table
from skip_exp.data.sources import load_rows
from skip_exp.errors import DataError, SkipError
from skip_exp.outcomes.one_label import OneLabel
from skip_exp.outcomes.scores import score
from skip_exp.skill.evaluate import confusion
from skip_exp.training.module import PromptTuner
from tests.helpers.given import describe
from tests.helpers.toy import quick_settings, save_toy

NO_YES, DROP = "task.labels=[no,yes]", "data.drop_bad=true"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    save_toy(folder)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*quick_settings(tmp_path_factory.mktemp("backbone")), "benchmark.enabled=false"]


@pytest.fixture(scope="module")
def model(toy: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Skill:
    output = tmp_path_factory.mktemp("output") / "it's (1), é=x"
    return skip_exp.fit(toy / "train.csv", ratio=0.3, output=output, overrides=settings)


def test_one_call_from_a_file_to_a_skill(model: Skill, toy: Path) -> None:
    assert model.result["status"] == "done"
    assert model.result["ratio"] == 0.3
    assert model.result["n_eval"] == 80  # a fifth of 400
    assert model.result["n_train"] == 288  # nine tenths of the others
    assert model.folder is not None
    kept = {results.FILE, results.CONFIG_FILE, LOG_FILE}
    assert kept <= {file.name for file in model.folder.parent.iterdir()}
    assert " INFO skip_exp." in (model.folder.parent / LOG_FILE).read_text()
    assert model.about.labels == ["0", "1"]
    answer = model.predict(["the film was dull"])[0]
    assert sorted(answer["probabilities"]) == ["0", "1"]
    found = model.evaluate(toy / "validation.csv")
    assert found["rows"] == 100 == sum(sum(row.values()) for row in found["confusion"].values())
    right = sum(found["confusion"][name][name] for name in ("0", "1"))
    assert found["accuracy"] == pytest.approx(right / 100)


def test_a_saved_skill_keeps_answers_and_result(model: Skill, tmp_path: Path) -> None:
    saved = Skill.load(model.save(tmp_path / "mine"))
    texts = ["the plot was long", "the film was warm"]
    assert saved.predict(texts) == model.predict(texts)
    assert saved.result["metric"] == model.result["metric"]
    assert (model.export(tmp_path / "hf") / "config.json").is_file()
    for refused in (
        lambda: model.save(tmp_path / "mine"),
        lambda: model.export(tmp_path / "x", "pickle"),
        lambda: model.export(tmp_path / "x", int8=True),
        lambda: Skill(model.about, model.tokenizer, model.model, model.keep).save(tmp_path / "x"),
    ):
        with pytest.raises(SkipError):
            refused()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "mine"]
    shutil.rmtree(tmp_path / "mine")
    for write in (saved.save, saved.export):  # not without the skill's own files
        with pytest.raises(SkipError, match="cannot be read"):
            write(tmp_path / "x")


def test_rows_of_every_kind_are_the_same_task(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": ("no", "yes")[i % 2]} for i in range(6)]
    table = pd.DataFrame(rows)
    dataset = Dataset.from_pandas(table).cast_column("label", ClassLabel(names=["no", "yes"]))
    tasks = [describe(data, tmp_path) for data in (table, rows, dataset)]
    asked = ["task.labels=[no,yes]"]
    tasks.append(describe(table, tmp_path, overrides=asked))
    assert all(task == tasks[0] for task in tasks)
    assert tasks[0]["labels"] == ["no", "yes"]
    stored = Path(tasks[0]["files"]["train"]).read_text().splitlines()
    assert [json.loads(line) for line in stored] == rows
    pairs = table.assign(first=table["text"], second="b")
    task = describe(pairs, tmp_path, text=["first", "second"], validation=pairs)
    assert task["text"] == ["first", "second"]
    assert {*task["files"]} == {"train", "validation"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([10, 2, 2, 10], ["2", "10"]),
        ([1.0, 0.0, None, float("nan"), 1.0, 0.0, pd.NA, ""], ["0", "1"]),
        (["2.0", "10.0", "2.0", "10.0"], ["2", "10"]),
        ([*torch.tensor([2, 10, 2, 10])], ["2", "10"]),
        ([True, False, True], ["false", "true"]),
        ([10, 0.5, -1, 10, 0.5, -1], ["-1", "0.5", "10"]),
        (["Happy", "happy", "happy", "sad", "sad"], ["happy", "sad"]),
    ],
)
def test_classes_are_found_in_the_label_column(values: list[Any], names: list[str]) -> None:
    table = to_table(
        [{"text": "a", "label": x} for x in [*values, *values]], ["text"], "label", DataConfig()
    )
    assert find_classes(table, "label", OneLabel()) == names


@pytest.mark.parametrize(
    ("names", "slips"),
    [
        (["human", "machine"], ["humann", "Humman", "hunan", "machnie", "mahcine"]),
        (["lost card", "card_arrival"], ["card_arival"]),
        (["Human", "machine"], ["humann"]),
    ],
)
def test_a_label_of_one_row_that_is_nearly_a_class_is_a_bad_row(
    names: list[str], slips: list[str], tmp_path: Path
) -> None:
    rows = [{"text": f"a {i}", "label": names[i % 2]} for i in range(130)]
    for slip in slips:
        bad = [*rows[:56], {"text": "odd", "label": slip}, *rows[56:]]
        with pytest.raises(DataError) as refused:
            describe(bad, tmp_path)
        assert "row 57: " in str(refused.value) and slip in str(refused.value)
        assert "did you mean" in str(refused.value) and "data.drop_bad" in str(refused.value)
        assert sorted(describe(bad, tmp_path, overrides=[DROP])["labels"]) == sorted(names)
        asked = [f"task.labels=[{','.join([*names, slip])}]"]
        assert describe(bad, tmp_path, overrides=asked)["labels"] == [*names, slip]
        twice = describe([*bad, {"text": "odder", "label": slip}], tmp_path)
        assert slip in twice["labels"]
        few = describe([*rows[:18], {"text": "odd", "label": slip}], tmp_path)
        assert slip in few["labels"]  # nine rows of each class


@pytest.mark.parametrize(
    ("name", "rare"),
    [
        *[(1, 11), (10, 100), ("A1", "A2"), ("pos2", "pos3"), ("class 1", "class 11")],
        *[("level2up", "level3up"), ("20231", "20232"), ("spam", "spm"), ("gret", "great")],
        *[("type-II", "type-III"), ("groupA", "groupB"), ("option_a", "option_b")],
        *[("active", "inactive"), ("typical", "atypical"), ("sexism", "sexist")],
        *[("card_arrival", "card_arriving"), ("pending_card", "pending_cash")],
        *[("positive", "negative"), ("order", "ordered"), ("increase", "decrease")],
        ("transfer_declined", "transfer_delayed"),
    ],
)
def test_a_rare_class_is_no_slip(name: Any, rare: Any, tmp_path: Path) -> None:
    for frequent, single in ((name, rare), (rare, name)):
        labels = [frequent, "another"] * 50
        rows = [{"text": f"a {i}", "label": x} for i, x in enumerate([*labels, single])]
        assert str(single) in describe(rows, tmp_path)["labels"]


def test_the_classes_of_a_data_set_are_no_slips(tmp_path: Path) -> None:
    names = ["human", "humann", "machine"]
    labels = [0, 2] * 30
    rows = {"text": [f"a {i}" for i in range(61)], "label": [*labels, 1]}
    data = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=names))
    assert describe(data, tmp_path)["labels"] == names


def test_a_slip_among_several_labels(tmp_path: Path) -> None:
    rows = [{"text": f"a {i}", "label": ["price", "staff"][: i % 3]} for i in range(90)]
    rows[7]["label"] = ["staff", "prices", "pricce"]
    with pytest.raises(DataError, match=r"row 8: .*'pricce'.*price\?"):
        describe(rows, tmp_path)
    assert describe(rows, tmp_path, overrides=[DROP])["labels"] == ["price", "prices", "staff"]


@pytest.mark.parametrize(
    ("counts", "asked", "main"),
    [
        ({"no": 90, "yes": 10}, [], "accuracy"),  # a tenth
        ({"no": 91, "yes": 9}, [], "f1_macro"),
        ({0: 91, 1: 9}, [NO_YES], "f1_macro"),  # indices
        ({"no": 50, "yes": 45, "odd": 5}, [NO_YES, DROP], "accuracy"),  # its rows are bad ones
        ({f"class {i}": 5 for i in range(20)}, [], "accuracy"),  # rare, but as all others
        ({f"class {i}": 5 for i in range(20)} | {"odd": 2}, [], "f1_macro"),
    ],
)
def test_a_rare_class_makes_f1_macro_the_main_metric(
    counts: dict[Any, int], asked: list[str], main: str, tmp_path: Path
) -> None:
    rows = [{"text": "a", "label": name} for name, count in counts.items() for _ in range(count)]
    task = describe(rows, tmp_path, overrides=asked)
    assert task["metrics"][0] == main
    assert sorted(task["metrics"]) == ["accuracy", "f1_macro"]


@pytest.mark.parametrize(
    "data",
    [
        "no/file.csv",
        {"text": 1},
        ["a", "b"],
        [{"text": str(i), "label": i} for i in range(30)],  # each its own class
        [{"text": "a", "label": 1}] * 30,  # one class
        [{"words": "a", "label": i % 2} for i in range(30)],
        [{"text": b"a", "label": i % 2} for i in range(30)],
        [{"text": "a", "label": {"x": i % 2}} for i in range(30)],
    ],
)
def test_what_is_no_task_is_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        describe(data, tmp_path)
    assert "\n" not in str(refused.value)


def test_an_index_is_refused_where_the_classes_were_found_in_the_data(tmp_path: Path) -> None:
    def rows(*labels: Any) -> list[dict[str, Any]]:
        return [{"text": "a", "label": label} for label in labels * 10]

    with pytest.raises(DataError, match=r"^the rows: label=label: 0: "):
        describe(rows("spam", "ham"), tmp_path, validation=rows(0, 1))
    asked = ["task.labels=[spam,ham]"]
    found = describe(rows("spam", "ham"), tmp_path, validation=rows(0, 1), overrides=asked)
    assert found["labels"] == ["spam", "ham"]
    with pytest.raises(DataError, match=r"row 2, 4, .*: label 3 "):
        describe(rows(1, 2), tmp_path, validation=rows(1, 3))


@pytest.mark.parametrize("name", [0, None, 1.5])
def test_a_column_is_named_by_a_text(name: Any, tmp_path: Path) -> None:
    table = pd.DataFrame([["a", 0], ["b", 1]] * 10)
    for given in ({"text": name}, {"label": name}):
        with pytest.raises(DataError) as refused:
            describe(table, tmp_path, **given)
        assert str(refused.value).startswith(f"{name!r}: ")


def column(table: Table, name: str) -> list[Any]:
    return [row[name] for row in table.rows]


def test_cells_stay_as_they_are_beside_a_hole() -> None:
    table = to_table(
        [{"text": 3, "label": 1}, {"text": None, "label": None}], ["text"], "label", DataConfig()
    )
    assert column(table, "text") == [3, None] and column(table, "label") == [1, None]
    rows = {"text": ["a", "b", "c"] * 10, "label": [0, 1, None] * 10}
    data = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=["neg", "pos"]))
    table = to_table(data, ["text"], "label", DataConfig())
    assert column(table, "label") == ["neg", "pos", None] * 10


def test_half_of_a_character_is_refused_before_any_work(
    tmp_path: Path, settings: list[str]
) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "\ud83d"}] * 15
    with pytest.raises(SkipError) as refused:
        skip_exp.fit(rows, output=tmp_path, overrides=settings)
    assert str(refused.value).startswith("task.labels=")
    assert not list(tmp_path.rglob("skill.json"))


def test_fits_of_two_threads_run_one_after_the_other(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would share the seeds, and the modules of a frozen backbone."""
    ready, running, most = Barrier(2, timeout=60), [], []

    def job(cfg: Any) -> None:
        running.append(cfg)
        time.sleep(0.2)
        most.append(len(running))
        running.remove(cfg)
        raise SkipError("enough")

    monkeypatch.setattr("skip_exp.pipeline.run", job)
    monkeypatch.setattr("skip_exp.api.fit.check_given", lambda *_: ready.wait())  # just before it
    with ThreadPoolExecutor(2) as pool:
        fits = [
            pool.submit(skip_exp.fit, toy / "train.csv", output=tmp_path, overrides=[f"seed={i}"])
            for i in (1, 2)
        ]
    assert all(isinstance(each.exception(), SkipError) for each in fits)
    assert most == [1, 1]


def test_a_data_set_has_its_classes_in_its_own_order(tmp_path: Path) -> None:
    names = ["World", "Business"]
    rows = {"text": [f"text {i}" for i in range(20)], "label": [0, 1] * 10}
    data = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=names))
    assert describe(data, tmp_path)["labels"] == names
    given: Any = {"validation": pd.DataFrame(rows)}  # its indices
    assert describe(data, tmp_path, **given)["labels"] == names
    more = data.cast_column("label", ClassLabel(names=[*names, "Sports"]))  # which no row has
    assert describe(more, tmp_path)["labels"] == names
    with pytest.raises(DataError, match=r"^the data frame: label=label: 0: "):
        describe(more, tmp_path, **given)
    table = pd.DataFrame(rows).assign(features="x")
    assert describe(table, tmp_path)["labels"] == ["0", "1"]


@pytest.mark.parametrize(
    ("signum", "place"),
    [(signal.SIGINT, "training_step"), (signal.SIGTERM, "validation_step")],
)
def test_ctrl_c_or_sigterm_in_a_fit_is_a_keyboard_interrupt(
    toy: Path,
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signum: signal.Signals,
    place: str,
) -> None:
    monkeypatch.setattr(PromptTuner, place, lambda *_: signal.raise_signal(signum))
    # A shell's background job starts with SIGINT ignored.
    of_suite = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            skip_exp.fit(toy / "train.csv", output=tmp_path, overrides=settings)
    finally:
        signal.signal(signal.SIGINT, of_suite)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_failed_job_has_a_result_that_says_so(
    toy: Path, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptTuner, "training_step", raising(RuntimeError("out of luck")))
    with pytest.raises(RuntimeError):
        skip_exp.fit(toy / "train.csv", output=tmp_path, overrides=settings)
    (result,) = results.load(tmp_path)
    assert (result["status"], result["error"]) == ("failed", "RuntimeError: out of luck")
    log = (Path(result["path"]).parent / LOG_FILE).read_text()
    assert "Traceback" in log and "out of luck" in log


def test_exit_codes_tell_a_job_that_failed_from_one_that_was_refused(
    toy: Path,
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [str(toy / "train.csv"), *settings]
    for wrong in ("tune.epohs=1", "data.sep=';;'", "tune.epochs=0"):
        assert train.train([*arguments, wrong]) == 2
    assert not [*tmp_path.iterdir()]
    monkeypatch.setattr(PromptTuner, "training_step", raising(SkipError("out of luck")))
    assert train.train(arguments) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: out of luck"


def test_how_rows_are_read_is_a_part_of_the_job(tmp_path: Path) -> None:
    lines = [b"%d;%d\n" % (i, i // 2 % 2) for i in range(40)]
    (tmp_path / "t.x.csv.gz").write_bytes(gzip.compress(b"".join([b"text;label\n", *lines])))
    asked = ["data.sep=;", "data.encoding=cp1252", DROP, "data.deduplicate=true"]
    task = describe(tmp_path / "t.x.csv.gz", tmp_path, overrides=asked)
    cfg = job_of(compose_job(asked, tmp_path), task, "out")
    data = cfg.data
    found = (data.sep, data.encoding, data.drop_bad, data.deduplicate)
    assert found == (";", "cp1252", True, True)
    assert cfg.task.name == "t.x"
    assert len(load_rows(cfg.task, cfg.data).train) == 29


def raising(error: BaseException) -> Any:
    def step(*_: Any) -> None:
        raise error

    return step


def test_the_column_of_groups_is_kept(tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": "a", "label": [0, 1] * 10, "user": range(20), "more": 1})
    task = describe(rows, tmp_path, overrides=["task.group=user"])
    assert task["group"] == "user"
    (first, *_) = Path(task["files"]["train"]).read_text().splitlines()
    assert json.loads(first) == {"text": "a", "label": 0, "user": 0}
    with pytest.raises(DataError, match="'team'"):
        describe(rows, tmp_path, overrides=["task.group=team"])


def test_rows_for_the_selection_slice_may_be_a_file(tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": "a", "label": [0, 1] * 10})
    task = describe(rows, tmp_path, overrides=["+task.files.select=unseen.csv"])
    assert task["files"].keys() == {"train", "select"}
    assert task["files"]["select"] == "unseen.csv"


def test_overrides_are_checked_as_on_the_command_line(toy: Path, tmp_path: Path) -> None:
    doors: dict[str, Any] = {
        "hydra.run.dir": {"overrides": ["hydra.run.dir=x"]},
        "^overrides: ": {"overrides": "tune.epochs=3"},
        "^prune.within=": {"ratio": 0.9, "overrides": ["prune.within=4"]},
        "^prune.ratio=2": {"ratio": 2},
    }
    for key, given in doors.items():
        with pytest.raises(SkipError, match=key):
            skip_exp.fit(toy / "train.csv", output=tmp_path, **given)
    assert not list(tmp_path.glob("*/*"))  # nothing ran


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rows = [{"text": "a", "label": i % 2} for i in range(30)]
    with pytest.raises(SkipError, match=r"^output="):
        describe(rows, tmp_path / "file")


def test_a_list_with_a_hole_is_refused_as_a_bad_row(model: Skill) -> None:
    for hole in (None, float("nan")):
        with pytest.raises(DataError, match="row 2"):
            model.evaluate([{"text": "a film", "label": 0}, {"text": hole, "label": 1}])


def test_confusion_counts() -> None:
    found = confusion(["a", "b"], np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert found == {"a": {"a": 1, "b": 1}, "b": {"a": 0, "b": 1}}


@pytest.mark.parametrize("key", ["labels", "text", "files"])
def test_what_would_be_an_expression_is_refused(key: str) -> None:
    task = {"name": "x", "text": ["s"], "labels": ["a", "b"], "metrics": ["accuracy"], "files": {}}
    for odd, named in (("${oc.env:HOME}", r"oc\.env:HOME"), ("???", r"'\?\?\?'")):
        with pytest.raises(SkipError, match=named):
            given = {key: {"train": odd} if key == "files" else [odd, "b"]}
            job_of(compose_config("config", []), task | given, "out")


def test_train_is_fit_on_the_command_line(
    toy: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "validation"):  # labels that YAML would read as numbers
        table = pd.read_csv(toy / f"{name}.csv")
        table.assign(label=table["label"].map({0: "1e3", 1: "2e-3"})).to_csv(
            tmp_path / f"{name}.csv"
        )
    arguments = [str(tmp_path / "train.csv"), "--validation", str(tmp_path / "validation.csv")]
    place = ["--output", str(tmp_path), "--ratio", "0.3", "task.name=2024"]
    assert train.train([*arguments, *place, *settings]) == 0
    (result,) = results.load(tmp_path)
    assert result["config"]["tune"]["train"] == "layers"
    assert result["config"]["prompt"]["kind"] == "none"
    skill = Path(result["path"]).parent / result["skill"]
    printed = capsys.readouterr().out
    lines = dict(line.split(None, 1) for line in printed.splitlines() if line[:1].islower())
    assert lines["skill:"].startswith(os.path.relpath(skill))
    assert {"predict:", "export:"} <= set(lines)
    assert result["config"]["task"]["labels"] == ["1e3", "2e-3"]


def test_a_job_saves_the_model_that_it_trained(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a rare class, too: no answer of it is added after training."""
    trained: list[Any] = []
    retune = pipeline.retune

    def keep_final(*given: Any) -> Any:
        final, epochs = retune(*given)
        trained.append(final.copy())
        return final, epochs

    monkeypatch.setattr(pipeline, "retune", keep_final)
    kinds = [("dull", "bad")] * 34 + [("warm", "bad")] * 4 + [("warm", "good")] * 2
    rows = [
        {"text": f"the film was {word}{' ' * i}", "label": label}
        for i, (word, label) in enumerate(kinds * 20)
    ]
    overrides = [*settings, "tune.lr=0.001", "retune.lr=0.001"]
    model = skip_exp.fit(rows, output=tmp_path, overrides=overrides)
    assert model.result["metric"]["name"] == "f1_macro"
    (final,) = trained
    served = dict(model.model.named_parameters())
    assert all(served[name].equal(each) for name, each in final.named_parameters())
    held = pd.read_csv(model.folder.parent / results.PREDICTIONS)
    true, given = held["label"].to_numpy(), held["predicted"].to_numpy()
    assert model.result["metric"]["final"] == pytest.approx(score("f1_macro", given, true, 2))
