"""An ONNX export answers as its skill: without torch, from any thread, without skip_exp."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from skip_exp import OnnxSkill, Skill
from skip_exp.commands.answer import predict
from skip_exp.commands.export import main
from skip_exp.data.batches import tokenize
from skip_exp.errors import SkipError
from skip_exp.models.surgery import cut
from skip_exp.skill.export.onnx import runtime, write
from skip_exp.skill.export.onnx.write import DRIFT, Differences, compare_onnx, examples_of
from skip_exp.skill.ranges import measure_ranges
from tests.helpers.saved import NOTHING, WORDS, Saved, save_tiny_skill
from tests.helpers.tiny import HIDDEN, KINDS, TYPED, tiny_inputs, tiny_model
from tests.helpers.written import ROOT
from tests.skill.export.test_huggingface import CASES as PLAIN_CASES

TEXTS = ["a warm film", "dull", "the plot is long [SEP] not </s> funny", "very good", ""]
MANY = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(40)]
CASES = PLAIN_CASES | {"bert mlm": ("bert", "input", "mlm")}
EXAMPLE = ROOT / "examples/onnxruntime_only.py"
ABSENT = ("skip_exp", "torch", "transformers", "pandas", "huggingface_hub")


def sign_export(folder: Path) -> None:
    """Make the checksum of an ONNX export right again, so that what was altered is read."""
    described = json.loads((folder / "config.json").read_text())
    if isinstance(described, dict):
        head = {name: described.pop(name) for name in ("version", "sha256") if name in described}
        head |= {"sha256": runtime.checksum(folder, described)}
        (folder / "config.json").write_text(json.dumps(head | described))


def alone(folder: Path, *texts: str) -> list[dict]:
    """What the example prints, in a process that cannot import what is ABSENT."""
    code = f"import runpy, sys; sys.modules |= dict.fromkeys({ABSENT}); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-c", code, str(EXAMPLE), str(folder), *texts]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def compared(skill: Skill, path: Path, texts: list[str]) -> Differences:
    examples = examples_of(skill.about, texts)
    rows = tokenize(skill.tokenizer, examples, skill.about.max_length)[0]
    return compare_onnx(skill.model, path, rows, skill.tokenizer.pad_token_id)


def same(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one["label"] == other["label"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.slow  # exports
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [False, True], ids=["some gone", "all gone"])
@pytest.mark.usefixtures("onnx_packages")
def test_both_runtimes_open_a_model_whose_sublayers_are_gone(
    tmp_path: Path, kind: str, whole: bool
) -> None:
    """OpenVINO refuses products of matrices with a dimension of zero."""
    onnx, openvino = pytest.importorskip("onnx"), pytest.importorskip("openvino")
    model = tiny_model(kind)
    sites = [b.name if "ffn" in b.name else f"{b.name}.heads" for b in model.blocks()]
    gone = sites if whole else [site for site in sites if ".1." in site]
    model = cut(model, dict.fromkeys(gone, NOTHING)).eval()
    path, inputs = tmp_path / "model.onnx", tiny_inputs(kind)
    with torch.no_grad():
        expected = model(**inputs).numpy()
    write.to_onnx(model, inputs, path)
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    products = kinds["MatMul"] + kinds["Gemm"]
    assert (products == 1 and not kinds["Softmax"]) if whole else products > 1
    given = {name: x.numpy() for name, x in inputs.items()}
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else bf16, where the processor has it
    compiled = openvino.Core().compile_model(path, "CPU", exact)
    found = compiled({name.any_name: given[name.any_name] for name in compiled.inputs})
    assert np.abs(found[0] - expected).max() < 1e-4
    assert np.abs(runtime.runner(path)(given) - expected).max() < 1e-5


@pytest.mark.slow  # an export takes seconds; the normal run has the 8-bit one of a BERT
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("onnx_packages")
def test_onnx_gives_the_same_logits(tmp_path: Path, case: str) -> None:
    kind, prompt, readout = CASES[case]
    saved = save_tiny_skill(tmp_path, kind, prompt, readout, train="lora")
    out = tmp_path / "out"
    assert main([str(saved.folder), str(out), "--format", "onnx"]) == 0
    skill = Skill.load(saved.folder)
    texts = [*TEXTS, " ".join(f"w{i}" for i in range(40)), "a", "bad bad film"]
    assert compared(skill, out / "model.onnx", texts).logits < 1e-5
    check_form(out, int8=False, types=kind in TYPED)
    same(OnnxSkill.load(out).predict(texts), skill.predict(texts))
    same(alone(out, *texts), skill.predict(texts))


def check_form(out: Path, *, int8: bool, types: bool) -> None:
    """Names and shapes of inputs and outputs, and what ``config.json`` says."""
    session = pytest.importorskip("onnxruntime").InferenceSession(out / "model.onnx")
    inputs = ["input_ids", "attention_mask"] + (["token_type_ids"] if types else [])
    assert [each.name for each in session.get_inputs()] == inputs
    assert all(each.shape == ["batch", "length"] for each in session.get_inputs())
    assert [each.name for each in session.get_outputs()] == ["logits"]
    config = json.loads((out / "config.json").read_text())
    told = {
        "format": "onnx",
        "labels": ["negative", "positive"],
        "int8": int8,
        "id2label": {"0": "negative", "1": "positive"},
        "label2id": {"negative": 0, "positive": 1},
        "problem_type": "single_label_classification",
    }
    if types:
        told |= {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
        told |= {"hidden_size": HIDDEN}
    assert config | told == config
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == config["max_length"]  # where pipelines truncate
    with pytest.raises(SkipError, match=r"skip_exp.OnnxSkill.load"):
        Skill.load(out)


def test_int8_is_near_and_has_int8_weights(tiny: Saved, onnx_folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = onnx_folder / "model.onnx"
    check_form(onnx_folder, int8=True, types=True)
    found = compared(Skill.load(tiny.folder), path, [*TEXTS, *MANY, "w30 " * 60])
    assert found.logits > 1e-6 and found.probabilities <= DRIFT
    skill = OnnxSkill.load(onnx_folder)
    alone = [skill.probabilities([[text]])[0] for text in MANY]
    assert np.allclose(skill.probabilities([[text] for text in MANY]), alone, atol=1e-3)
    weights = [w for w in onnx.load(path).graph.initializer if w.data_type == onnx.TensorProto.INT8]
    linears = [b for b in tiny.model.blocks() if b.output.in_features]
    assert len([w for w in weights if len(w.dims) == 2]) >= len(linears)


def test_sublayers_that_are_gone_leave_no_empty_matrix(tiny: Saved, onnx_folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    assert any(block.output.in_features == 0 for block in tiny.model.blocks())
    graph = onnx.load(onnx_folder / "model.onnx").graph
    assert not [w.name for w in graph.initializer if 0 in w.dims]


def test_predict_takes_an_onnx_export_that_is_whole(
    tiny: Saved, onnx_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    out = shutil.copytree(onnx_folder, tmp_path / "out")
    assert predict([str(out), TEXTS[0]]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["label"] == Skill.load(tiny.folder).predict([TEXTS[0]])[0]["label"]
    assert predict([str(out), TEXTS[0], "--precision", "bf16"]) == 2
    assert "--precision bf16: " in capsys.readouterr().err
    assert main([str(out), str(tmp_path / "again"), "--format", "onnx"]) == 2
    assert not (tmp_path / "again").exists()
    changes = ("model.onnx", "", "x"), ("config.json", '"negative"', '"not good"')
    for name, old, new in (*changes, ("tokenizer.json", '"warm"', '"cold"')):
        content = (out / name).read_bytes()
        (out / name).write_bytes(content.replace(old.encode(), new.encode(), 1) + b" ")
        assert predict([str(out), TEXTS[0]]) == 2
        assert "damaged or altered" in capsys.readouterr().err
        (out / name).write_bytes(content)
    (out / "model.onnx.bak").touch()  # not its own
    assert OnnxSkill.load(out).predict(TEXTS[:2])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_it_brings_neither_torch_nor_transformers(onnx_folder: Path) -> None:
    code = f"""
import sys
from skip_exp import OnnxSkill
(answer,) = OnnxSkill.load({str(onnx_folder)!r}).predict(["a warm film"])
heavy = {{"torch", "transformers", "lightning", "pandas", "omegaconf", "skip_exp.config"}}
heavy &= set(sys.modules)
assert not heavy, heavy
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]  # of this program
print(int(peak[0].split()[1]) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 150  # MB


def test_eight_threads_get_the_answers_of_one(onnx_folder: Path) -> None:
    skill = OnnxSkill.load(onnx_folder, threads=1)
    parts = [MANY[i:] + MANY[:i] for i in range(8)]
    alone = [skill.predict(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(skill.predict, parts)) == alone


PAIRS = [("a warm film", "dull " * 40), ("w12 " * 30, "very good"), ("bad", "")]
FLAT = [text for pair in PAIRS for text in pair]


def test_so_they_are_for_pairs(onnx_folder: Path, tmp_path: Path) -> None:
    out = shutil.copytree(onnx_folder, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"text": ["first", "second"]}))
    sign_export(out)
    same(alone(out, *FLAT), OnnxSkill.load(out).predict(PAIRS))


def test_a_linear_is_smoothed_and_rounded() -> None:
    from skip_exp.skill.export.onnx.trace import RoundedLinear  # imports torch.onnx

    linear = nn.Linear(2, 2, bias=False)
    linear.weight = nn.Parameter(torch.tensor([[1.0, 16.0], [0.5, -2.0]]))
    rounded = RoundedLinear(linear, torch.tensor([16.0, 1.0]), linear.weight)
    assert rounded.inverse.tolist() == [1 / 8, 2]  # of 16^0.75 / 1^0.25 and 1^0.75 / 16^0.25
    assert rounded.step.item() == pytest.approx(2 / 127)  # both channels reach 2
    assert rounded.scale.tolist() == pytest.approx([8 / 63, 4 / 63])
    assert rounded.weight.T.tolist() == [[63, 63], [63, -16]]  # 63 / 4 = 15.75
    assert rounded.bias.tolist() == [0, 0]


def test_layers_with_one_input_share_its_integers() -> None:
    from skip_exp.skill.export.onnx.trace import RoundedLinear, round_model

    model = tiny_model("bert")
    round_model(model, measure_ranges(model, [{"input_ids": [12, 13, 14]}], 0))
    attention = model.backbone.base_model.encoder.layer[0].attention.self
    query, key = attention.query, attention.key
    output = model.backbone.base_model.encoder.layer[0].attention.output.dense
    assert isinstance(query, RoundedLinear) and isinstance(key, RoundedLinear)
    assert torch.equal(query.inverse, key.inverse) and query.step == key.step
    assert isinstance(output, RoundedLinear) and output.inverse is None


def test_what_cannot_be_traced_is_one_line(tiny: Saved, tmp_path: Path) -> None:
    model = Skill.load(tiny.folder).model
    inputs = tiny_inputs("bert")
    del model.readout
    with pytest.raises(SkipError, match="exporter failed") as error:
        write.to_onnx(model, inputs, tmp_path / "model.onnx")
    assert "\n" not in str(error.value) and not (tmp_path / "model.onnx").exists()


def test_no_sum_is_fused_with_a_norm(onnx_folder: Path, tmp_path: Path) -> None:
    """``SkipLayerNormalization`` is several times slower than both."""
    onnx, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxruntime"))
    options = onnxruntime.SessionOptions()  # all optimizations are on
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(onnx_folder / "model.onnx", options)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["LayerNormalization"] == 5 and not kinds["SkipLayerNormalization"]


def test_in_8_bits_what_a_block_adds_is_subtracted(tmp_path: Path) -> None:
    """A difference runs on all threads, a sum of several does not."""
    onnx, path = pytest.importorskip("onnx"), tmp_path / "model.onnx"
    model, inputs = tiny_model("bert"), tiny_inputs("bert")
    ranges = measure_ranges(model, [{"input_ids": [12, 13, 14]}], 0)
    write.to_onnx(model, inputs, path, ranges)
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert kinds["Sub"] == len(model.blocks()) + 1  # and of the mask
    assert kinds["MatMulIntegerToFloat"] == len(ranges) and not kinds["Neg"]


def test_another_process_gets_it(onnx_folder: Path) -> None:
    skill = OnnxSkill.load(onnx_folder, threads=1)
    assert pickle.loads(pickle.dumps(skill)).predict(TEXTS) == skill.predict(TEXTS)


def test_threads_and_repr(onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    asked: list[int] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: object, options: object, **more: object) -> None:
            asked.append(options.intra_op_num_threads)  # type: ignore[attr-defined]
            super().__init__(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(runtime, "cores", os.cpu_count)
    for given in ("3", "", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        skill = OnnxSkill.load(onnx_folder)
    OnnxSkill.load(onnx_folder, threads=2)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(runtime, "cores", lambda: 5)  # as under taskset
    OnnxSkill.load(onnx_folder)
    assert asked == [3, 0, 0, 2, 5]
    assert repr(skill) == (
        "OnnxSkill(task='toy', labels=['negative', 'positive'], backbone='bert')"
    )


def test_a_skill_names_what_reads_it(tiny: Saved) -> None:
    with pytest.raises(SkipError, match=r"Skill\.load"):
        OnnxSkill.load(tiny.folder)
