import numpy as np
import pytest
from safetensors.numpy import save_file

from skip_exp.report import frame, overlap
from skip_exp.report.cells import gather
from tests.helpers.fakes import result, store


def keep(*kept, of=4):
    return {"encoder.0.ffn": np.isin(np.arange(of), kept)}


def test_jaccard_and_what_random_choices_would_give():
    assert overlap.compare(keep(0, 1), keep(1, 2)) == pytest.approx((1 / 3, 1 / 3))
    assert overlap.compare(keep(0, 1), keep(0, 1)) == pytest.approx((1, 1 / 3))
    assert overlap.compare(keep(0), keep(1, 2, 3)) == pytest.approx((0, 0.75 / 3.25))


def test_what_does_not_compare():
    assert overlap.compare(keep(), keep()) is None
    assert overlap.compare(keep(0), keep(0, of=5)) is None
    assert overlap.compare(keep(0), {"encoder.1.ffn": keep(0)["encoder.0.ffn"]}) is None


def test_chance_is_what_random_choices_give():
    draw = np.random.default_rng(0)
    made = [{"s": draw.permutation(4000) < 1000, "t": draw.permutation(2000) < 1600} for _ in "ab"]
    observed, chance = overlap.compare(*made)
    assert chance == pytest.approx(observed, abs=0.02)


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


def test_dims_count_head_by_head(tmp_path):
    """Two heads of four dims each: together they would keep the same dims of one head."""
    sizes = {"encoder.0.self.qk": [2, 4]}
    masks = []
    for name, keep in (("a", [[0, 1], [2, 3]]), ("b", [[2, 3], [0, 1]])):
        (tmp_path / name).mkdir()
        made = run(tmp_path / name, **{"keep/encoder.0.self.qk": np.array(keep)})
        masks.append(overlap.kept(made | {"keep_sizes": sizes}))
    expected = np.array([1, 1, 0, 0, 0, 0, 1, 1], bool)
    assert np.array_equal(masks[0]["encoder.0.self.qk"], expected)
    (tmp_path / "c").mkdir()
    tensors = {"heads": np.array([1]), "qk": np.array([[0, 1], [2, 3]])}
    made = run(tmp_path / "c", **{f"keep/encoder.0.self.{k}": v for k, v in tensors.items()})
    found = overlap.kept(made | {"keep_sizes": sizes | {"encoder.0.self.heads": [1, 2]}})
    assert np.array_equal(found["encoder.0.self.qk"], expected & (np.arange(8) > 3))
    assert overlap.compare(*masks) == pytest.approx((0, 2 / 6))  # 4 x 4 of 8 by chance


@pytest.mark.parametrize("tensors", [{}, {"keep/encoder.0.ffn": np.array([9])}])
def test_kept_of_an_unusable_file_is_empty(tmp_path, tensors):
    assert overlap.kept(run(tmp_path, **tensors)) == {}


def test_kept_without_a_file_is_empty(tmp_path):
    sizes = {"encoder.0.ffn": [1, 2]}
    run = {"path": str(tmp_path / "result.json"), "skill": "skill", "keep_sizes": sizes}
    assert overlap.kept(run) == {}


def overlaps(folder, found):
    return overlap.overlaps(gather(frame.load([store(folder, found, skills=True)])).runs)


def test_matrices_by_kind_with_seeds_on_the_diagonal(tmp_path):
    found = [result(task, seed=seed) for task in ("sst2", "rte") for seed in (1, 2)]
    (title, observed, chance), (heads, *_) = overlaps(tmp_path, found)
    assert (title, heads) == ("minilm · ffn · ratio 0.5", "minilm · heads · ratio 0.5")
    assert list(observed.index) == list(observed.columns) == ["rte", "sst2"]
    # The invented keeps are the same for all seeds of a task.
    assert observed.loc["rte", "rte"] == 1
    assert chance.loc["sst2", "rte"] < observed.loc["sst2", "rte"] < 1
    assert np.isnan(observed.loc["rte", "sst2"])  # the lower triangle only


def test_no_matrix_of_one_task(tmp_path):
    assert overlaps(tmp_path, [result(seed=1), result(seed=2)]) == []
