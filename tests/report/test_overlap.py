import numpy as np
import pytest
from safetensors.numpy import save_file

from skip_exp import results
from skip_exp.report import overlap
from skip_exp.report.cells import cells, main_method
from skip_exp.report.overlap import Keep
from tests.helpers.fakes import result, store


def keep(*kept, of=4):
    return Keep.of({"s": np.isin(np.arange(of), kept)})


def test_jaccard():
    assert overlap.jaccard(keep(0, 1), keep(1, 2)) == pytest.approx(1 / 3)
    assert overlap.jaccard(keep(0, 1), keep(0, 1)) == 1
    assert overlap.jaccard(keep(), keep()) is None


def test_chance_is_what_random_choices_give():
    assert overlap.chance(keep(0, 1), keep(2, 3)) == pytest.approx(1 / 3)
    draw = np.random.default_rng(0)
    made = [{"s": draw.permutation(4000) < 1000, "t": draw.permutation(2000) < 1600} for _ in "ab"]
    made = list(map(Keep.of, made))
    assert overlap.chance(*made) == pytest.approx(overlap.jaccard(*made), abs=0.02)


def run(folder, **tensors):
    (folder / "skill").mkdir()
    save_file(tensors, folder / "skill" / "skill.safetensors")
    sizes = {"encoder.0.ffn": [2, 4], "encoder.1.ffn": [0, 3]}
    return {"path": str(folder / "result.json"), "skill": "skill", "keep_sizes": sizes}


def test_kept_reads_the_skill_file(tmp_path):
    tensors = {"keep/encoder.0.ffn": np.array([0, 3]), "prompt": np.zeros((2, 2), np.float32)}
    masks = overlap.kept(run(tmp_path, **tensors))
    assert {site: mask.tolist() for site, mask in masks.items()} == {
        "encoder.0.ffn": [True, False, False, True],
        "encoder.1.ffn": [False, False, False],
    }


@pytest.mark.parametrize("tensors", [{}, {"keep/encoder.0.ffn": np.array([9])}])
def test_kept_of_an_unusable_file_is_empty(tmp_path, tensors):
    assert overlap.kept(run(tmp_path, **tensors)) == {}


def test_kept_without_a_file_is_empty(tmp_path):
    assert overlap.kept({"path": str(tmp_path / "result.json"), "keep_sizes": {"a": [1, 2]}}) == {}


def matrices(folder, found):
    gathered = cells(results.load(store(folder, found, skills=True)))
    return overlap.overlaps(gathered, main_method(gathered))


def test_matrices_by_kind_with_seeds_on_the_diagonal(tmp_path):
    found = [result(task, seed=seed) for task in ("sst2", "rte") for seed in (1, 2)]
    ffn, heads = matrices(tmp_path, found)
    assert (ffn.kind, heads.kind, ffn.tasks) == ("ffn", "heads", ["rte", "sst2"])
    # The invented keeps are the same for all seeds of a task.
    assert ffn.observed["rte", "rte"].mean == 1 and ffn.observed["rte", "rte"].n == 1
    assert ffn.observed["rte", "sst2"].n == 4
    assert ffn.chance["rte", "sst2"] < ffn.observed["rte", "sst2"].mean < 1


def test_no_matrix_of_one_task_or_of_sample_data(tmp_path):
    assert matrices(tmp_path / "a", [result(seed=1), result(seed=2)]) == []
    sample = [result(task, data_is_sample=True) for task in ("sst2", "rte")]
    assert matrices(tmp_path / "b", sample) == []
