"""A job's data and backbone are read once per process, and again when their files change."""

import os
from pathlib import Path

import pytest

from skip_exp.cache.store import stage_key
from skip_exp.data import sources
from skip_exp.phases.prepare import prepare
from tests.helpers.saved import save_backbone
from tests.helpers.toy import save_toy, toy_job


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
    assert [len(job.data.train) for job in (whole, few, more)] == [360, 50, 360]
    assert len(few.data.select) == 40
    keys = [stage_key("x", job.dense_arguments) for job in (whole, few, same, other, more)]
    assert keys[1] == keys[2] and keys[0] == keys[4] and keys[0] != keys[1] != keys[3]
    assert few.key == same.key
    assert len({job.key for job in (whole, few, other, more)}) == 4
    assert few.data.train == same.data.train != other.data.train
