"""An ONNX export at work: few imports, any thread, an answer that no neighbour changes."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from skip_exp import OnnxSkill
from skip_exp.skill.export.onnx.int8 import round_weights
from tests.helpers.saved import WORDS

TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(40)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_it_brings_neither_torch_nor_transformers(onnx_folder: Path) -> None:
    code = f"""
import sys, time
start = time.perf_counter()
from skip_exp import OnnxSkill
(answer,) = OnnxSkill.load({str(onnx_folder)!r}).predict(["a warm film"])
seconds = time.perf_counter() - start
heavy = {{"torch", "transformers", "pandas", "omegaconf", "skip_exp.config"}} & set(sys.modules)
assert not heavy, heavy
assert answer["label"] in ("negative", "positive")
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]  # of this program
print(f"{{seconds:.2f}} s, {{int(peak[0].split()[1]) / 1024:.0f}} MB")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert float(done.stdout.split(", ")[1].split()[0]) < 150


def test_eight_threads_get_the_answers_of_one(onnx_folder: Path) -> None:
    skill = OnnxSkill.load(onnx_folder, threads=1)
    parts = [TEXTS[i:] + TEXTS[:i] for i in range(8)]
    alone = [skill.predict(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(skill.predict, parts)) == alone


def test_8_bit_answers_do_not_depend_on_neighbours(onnx_folder: Path) -> None:
    skill = OnnxSkill.load(onnx_folder)
    long = "w30 " * 60
    together = [each["probabilities"]["positive"] for each in skill.predict([*TEXTS, long])]
    alone = [skill.predict([text])[0]["probabilities"]["positive"] for text in [*TEXTS, long]]
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_product_is_rounded_by_row_and_column() -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    weight = np.array([[63, -1], [2, 0.25]], np.float32)  # columns in steps of 1 and 1/63
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kinds.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", kinds.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    round_weights(model)
    run = onnxruntime.InferenceSession(model.SerializeToString()).run
    x = np.array([[127, 1], [1.27, 0.01], [0, 0]], np.float32)  # whole in steps of 1 and 0.01
    quarter = 16 / 63  # 15.75, rounded
    row = np.array([127 * 63 + 2, -127 + quarter])
    np.testing.assert_allclose(run(None, {"x": x})[0], [row, row / 100, [0, 0]], rtol=1e-5)


def test_threads_and_repr(onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    asked: list[int] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: object, options: object, **more: object) -> None:
            asked.append(options.intra_op_num_threads)  # type: ignore[attr-defined]
            super().__init__(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    for given in ("3", "", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        skill = OnnxSkill.load(onnx_folder)
    OnnxSkill.load(onnx_folder, threads=2)
    assert asked == [3, 0, 0, 2]
    assert repr(skill) == (
        "OnnxSkill(task='toy', labels=['negative', 'positive'], backbone='bert')"
    )
