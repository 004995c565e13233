"""A finished job is the last stage; all that counts makes another one; inputs are read once."""

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from skip_exp import pipeline, results
from skip_exp.cache.store import Keyed, stage_key
from skip_exp.commands.answer import predict
from skip_exp.data import sources
from skip_exp.errors import SkipError
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shapes_of, site_sizes
from skip_exp.phases import measure
from skip_exp.phases.fit import fit_dense
from skip_exp.phases.prepare import prepare
from skip_exp.phases.prune import attribute, prune
from skip_exp.pruning.allocate import Group
from skip_exp.skill.record import RECORD, TENSORS
from tests.helpers.saved import save_backbone
from tests.helpers.toy import save_toy, toy_job

Make = Callable[..., Any]
QUICK = ("attribution=magnitude", "retune.enabled=false")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A toy task with one finished job in ``first``: its overrides, its folder."""
    root = tmp_path_factory.mktemp("again")
    toy = save_toy(root)
    pipeline.run(toy_job(toy, root, "first", *QUICK))
    return toy, root


@pytest.fixture
def job(done: tuple[list[str], Path], tmp_path: Path) -> Make:
    """``job(...)``: the same job in another folder, or one that differs."""
    toy, root = done
    return partial(toy_job, toy, root, "second", *QUICK, f"output_dir={tmp_path}/run")


def is_known(cfg: Any, root: Path) -> bool:
    """Whether the cache has the finished job of ``cfg``."""
    return (root / f"cache/jobs/{prepare(cfg).key}.safetensors").exists()


def test_the_same_job_is_answered(
    job: Make, done: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever its rows lie, whatever it logs, whether its first folder is there or not."""
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran again"))
    (first,) = results.load(done[1] / "first")
    shutil.copy(done[1] / "train.csv", tmp_path / "copy.csv")
    same = ["trainer.accelerator=cpu", "logger=csv", f"task.files.train={tmp_path}/copy.csv"]
    for overrides in ([], same, ["benchmark.batch=3"]):
        pipeline.run(job(*overrides))
        (stored,) = results.load(tmp_path / "run")
        assert stored["metric"] == first["metric"] and stored["job_id"] == first["job_id"]
        names = [f"skill/{TENSORS}", results.PICTURE, results.PREDICTIONS]
        if overrides != same:  # else the record names another file
            names.append(f"skill/{RECORD}")
        for name in names:
            files = [Path(result["path"]).parent / name for result in (first, stored)]
            assert files[0].read_bytes() == files[1].read_bytes(), name
        shutil.rmtree(tmp_path / "run/skill")
    pipeline.run(job())
    assert predict([f"{tmp_path}/run", "the film was dull"]) == 0


def test_an_answered_job_names_where_its_inputs_lie_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backbone, rows and the skill that it starts from have moved: content is the key."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    toy = save_toy(old)
    pipeline.run(toy_job(toy, tmp_path, "given", *QUICK, "prune.ratio=0"))
    (tmp_path / "given/skill").rename(old / "start")
    own = [*QUICK, f"tune.start={old}/start"]
    first = pipeline.run(toy_job(toy, tmp_path, "first", *own))
    (entry,) = tmp_path.glob(f"cache/jobs/{first.job_id}.safetensors")
    assert str(tmp_path).encode() not in entry.read_bytes()
    old.rename(new)
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran again"))
    moved = [override.replace(str(old), str(new)) for override in [*toy, *own]]
    second = pipeline.run(toy_job(moved, tmp_path, "second"))
    text = "".join(file.read_text() for file in (tmp_path / "second").rglob("*.[jy]*"))
    assert second.job_id == first.job_id and str(new) in text and str(old) not in text
    assert (second.start, second.data_source) == (f"{new}/start", f"local:{new}")
    assert second.metric == first.metric and second.git_commit == first.git_commit
    assert predict([f"{tmp_path}/second", "the film was dull"]) == 0


@pytest.mark.parametrize(
    "other",
    ["prune.ratio=0.3", "seed=2", "trainer.precision=bf16-mixed", "data.train_rows=50"],
)
def test_another_job_is_not(job: Make, done: tuple[list[str], Path], other: str) -> None:
    assert not is_known(job(other), done[1])


def test_edited_data_make_another_job(job: Make, done: tuple[list[str], Path]) -> None:
    file = done[1] / "train.csv"
    content, about = file.read_bytes(), file.stat()
    file.write_bytes(content.replace(b"good", b"fine", 1))
    assert not is_known(job(), done[1])
    file.write_bytes(content)
    assert is_known(job(), done[1])  # not by its time, by its content
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_damaged_entry_is_computed_again(job: Make, done: tuple[list[str], Path]) -> None:
    (entry,) = done[1].glob("cache/jobs/*.safetensors")
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1])
    pipeline.run(job())
    assert entry.read_bytes()[-1000:] == whole[-1000:]


def test_a_killed_job_goes_on_with_its_stages(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pipeline, "attribute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        pipeline.run(job("seed=7"))
    assert not Path(job().output_dir, "result.json").exists()
    assert pipeline.run(job("seed=7"))["cache"] == {"tune": "hit", "attribution": "miss"}


def test_another_jobs_folder_is_refused_before_any_work(job: Make, tmp_path: Path) -> None:
    pipeline.run(job())
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(SkipError, match=r"^output_dir=.*run: "):
        pipeline.run(job("prune.ratio=0.3"))
    assert before == {path: path.read_bytes() for path in before}


@pytest.fixture
def timed(job: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, int]]:
    """``timed(contended=False)``: a job's stored latency by an invented clock, and its calls."""
    state: dict[str, Any] = {"calls": 0}

    def compare(dense: Any, final: Any, settings: Any, device: str) -> dict[str, Any]:
        state["calls"] += 1
        sizes = [sum(s.parameters for s in shapes_of(model)) for model in (dense, final)]
        threads = {"device": "x", "threads": torch.get_num_threads()}
        times = {"dense_ms": sizes[0], "final_ms": sizes[1], "speedup": 2.0}
        return {"contended": state["contended"], **times, **threads}

    monkeypatch.setattr(measure, "compare", compare)

    def run(contended: bool = False) -> tuple[Any, int]:
        state.update(contended=contended, calls=0)
        cfg = job("benchmark.enabled=true")
        pipeline.run(cfg)
        (stored,) = results.load(cfg.output_dir)
        return stored["latency"], state["calls"]

    return run


def test_a_timing_is_reused_where_it_was_quiet_and_taken_here(
    timed: Callable[..., tuple[Any, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run_phases", lambda *_: pytest.fail("ran again"))
    assert timed(contended=True)[0]["contended"]
    latency, calls = timed()
    assert (latency["contended"], calls) == (False, 1)
    assert latency["dense_ms"] > latency["final_ms"]
    assert timed() == (latency, 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)  # a call in Python, which no variable tells
        other, calls = timed()
        assert (other["threads"], calls) == (before + 1, 1)
    finally:
        torch.set_num_threads(before)
    assert timed() == (latency, 0)


def scores_by_chance(model: SoftPromptModel, batches: Any) -> Relevance:
    return {site: torch.rand(size) for site, size in site_sizes(shapes_of(model)).items()}


def order_by_chance(groups: list[Group]) -> list[Group]:
    random.shuffle(groups)
    return groups


def test_a_part_that_draws_at_random_draws_the_same_whatever_ran_before(tmp_path: Path) -> None:
    own = ("attribution=random", f"attribution._target_={__name__}.scores_by_chance")
    own += (f"prune.allocation={__name__}.order_by_chance",)
    job = prepare(toy_job(save_toy(tmp_path), tmp_path, "run", *own))
    dense, seed = job.new_model(), job.seed("prune")
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        random.seed(state)
        relevance = attribute(job, Keyed(f"dense {state}", lambda: dense))[0].value
        random.seed(state)  # as where the relevance comes from the cache
        _, keep = prune(dense, relevance, job.cfg.prune, 0.5, seed)
        found.append((relevance, keep))
    for first, second in zip(*found, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[site], second[site]) for site in first)


def test_rows_and_weights_that_changed_on_disk_are_seen_by_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = save_toy(tmp_path)
    reads: list[Path] = []
    read = sources.read_table
    monkeypatch.setattr(
        sources, "read_table", lambda path, *columns: reads.append(path) or read(path, *columns)
    )
    first = prepare(toy_job(toy, tmp_path, "first"))
    again = prepare(toy_job(toy, tmp_path, "again", "prune.ratio=0.3"))
    assert again.data is first.data
    words = [each.backbone.model.get_input_embeddings().weight for each in (first, again)]
    assert words[0] is words[1]
    assert len(reads) == 2
    train = tmp_path / "train.csv"
    before = train.stat()
    text = train.read_text()
    train.write_text(text.replace(",0", ",2").replace(",1", ",0").replace(",2", ",1"))
    os.utime(train, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    turned = prepare(toy_job(toy, tmp_path, "turned"))
    assert [row["label"] for row in turned.data.train] == [
        1 - row["label"] for row in first.data.train
    ]
    save_backbone(tmp_path / "backbone", "bert", seed=1)
    other = prepare(toy_job(toy, tmp_path, "other"))
    assert other.backbone.content_hash != first.backbone.content_hash
    assert len({job.key for job in (first, turned, other)}) == 3


def test_rows_of_a_data_folder_count_too(tmp_path: Path) -> None:
    toy = save_toy(tmp_path)
    folder = tmp_path / "data" / "adjectives"
    folder.mkdir(parents=True)
    own = [f"data.dir={tmp_path / 'data'}", *(o for o in toy if "task.files" not in o)]
    for split in ("train", "validation"):
        (folder / f"{split}.csv").write_text((tmp_path / f"{split}.csv").read_text())
    first = prepare(toy_job(own, tmp_path, "first"))
    with (folder / "validation.csv").open("a") as file:
        file.write("the film was warm,1\n")
    second = prepare(toy_job(own, tmp_path, "second"))
    assert [len(job.data.validation) for job in (first, second)] == [100, 101]


def test_fewer_train_rows_are_another_job(tmp_path: Path) -> None:
    toy = save_toy(tmp_path)
    whole, few, same, other, more = (
        prepare(toy_job(toy, tmp_path, "job", *overrides))
        for overrides in (
            [],
            ["data.train_rows=50"],
            ["data.train_rows=50"],
            ["data.train_rows=50", "seed=2"],
            ["data.train_rows=5000"],
        )
    )
    assert [len(job.data.train) for job in (whole, few, more)] == [360, 45, 360]
    assert len(few.data.select) == 5
    keys = [stage_key(fit_dense, job.dense_arguments) for job in (whole, few, same, other, more)]
    assert keys[1] == keys[2] and keys[0] == keys[4] and keys[0] != keys[1] != keys[3]
    assert few.key == same.key
    assert len({job.key for job in (whole, few, other, more)}) == 4
    assert few.data.train == same.data.train != other.data.train
