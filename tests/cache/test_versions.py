"""Code versions follow imports: what computes a number counts, what reports it does not."""

import importlib.metadata
from pathlib import Path

import pytest

from skip_exp.cache import versions
from skip_exp.cache.version import (
    PIPELINE,
    STAGES,
    closure,
    code_version,
    libraries,
    stage_version,
)


def of(stage: str) -> set[str]:
    """What counts for a stage, without the package's own name."""
    modules = tuple(f"skip_exp.{name}" for name in STAGES[stage])
    return {name.removeprefix("skip_exp.") for name in closure(modules)}


@pytest.mark.parametrize("stage", STAGES)
def test_what_reports_or_logs_or_chooses_counts_for_no_stage(stage: str) -> None:
    rooms = {name.partition(".")[0] for name in of(stage)}
    assert not rooms & {"report", "logger", "sweep", "bench", "results", "config", "pipeline"}


def test_a_tuned_prompt_does_not_depend_on_what_comes_after_it() -> None:
    assert of("tune") >= {"job.job", "phases.tune", "phases.fit", "training.module", "models.sites"}
    assert of("tune") >= {"data.module", "models.prompts", "models.readouts"}
    rooms = {name.partition(".")[0] for name in of("tune")}
    assert not rooms & {"attribution", "pruning", "skill"}
    assert "phases.attribute" in of("attribute") - of("tune")
    assert of("probe") >= {"pruning.allocate", "pruning.surgery", "phases.retune"}


@pytest.mark.parametrize("stage", ["attribute", "teacher", "score", "probe"])
def test_what_depends_on_the_tuned_model_depends_on_what_tunes_it(stage: str) -> None:
    assert of(stage) >= of("tune")


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("report/tables.py", set()),
        ("logger/build.py", set()),
        ("config/schema.py", set()),
        ("phases/attribute.py", {"attribute", "probe", "job"}),  # calibration rows
        ("pruning/allocate.py", {"probe", "job"}),
        ("phases/sublayers.py", {"probe", "latency", "job"}),
        ("phases/benchmark.py", {"job"}),
        ("training/length.py", {*STAGES, "job"} - {"latency"}),  # how long tune trains
        ("job/prepare.py", {*STAGES, "job"}),  # which rows are drawn
        ("job/finish.py", {"job"}),
        ("pipeline.py", {"job"}),
        ("job/checks.py", set()),
        ("results.py", set()),
        ("data/encode.py", {*STAGES, "job"}),
        ("job/job.py", {*STAGES, "job"}),  # seeds, new models
    ],
)
def test_an_edit_changes_what_it_computes(
    monkeypatch: pytest.MonkeyPatch, edited: str, changed: set[str]
) -> None:
    before, read = code_versions(), versions._read
    module = f"skip_exp.{edited.removesuffix('.py').replace('/', '.')}"
    monkeypatch.setattr(versions, "_read", lambda name: read(name) + b"#" * (name == module))
    after = code_versions()
    assert {name for name in before if before[name] != after[name]} == changed


def test_what_an_installed_part_imports_from_its_own_package_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "site-packages"
    package = place / "own_extension"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "scale.py").write_text("SCALE = 1\n")
    (package / "method.py").write_text("import torch\nfrom own_extension import scale\n")
    monkeypatch.syspath_prepend(place)
    found = closure(("own_extension.method",))
    assert found == {"own_extension.method", "own_extension.scale"}


def code_versions() -> dict[str, str]:
    """Code version of every stage, and of the job."""
    versions.code_version.cache_clear()
    return {stage: stage_version(stage) for stage in STAGES} | {"job": code_version(PIPELINE)}


def test_libraries_that_compute_count() -> None:
    used = libraries(closure((PIPELINE,)))
    wanted = {"torch", "transformers", "tokenizers", "lightning", "torchmetrics", "numpy"}
    assert wanted <= used.keys()
    assert used["torch"] == importlib.metadata.version("torch")
    assert not used.keys() & {"wandb", "hydra", "matplotlib", "json", "skip_exp"}
    assert not used.keys() & {"onnx", "onnxruntime"}  # of exports, after the job


def test_an_edit_after_the_first_key_is_not_what_this_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later part that imports the same helper is filed under the helper as it was read first."""
    for name in ("first_part", "second_part"):
        (tmp_path / f"{name}.py").write_text("import their_helper\n")
    helper = tmp_path / "their_helper.py"
    helper.write_text("SIGN = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    code_version("first_part")
    helper.write_text("SIGN = -1\n")
    edited = code_version("second_part")
    helper.write_text("SIGN = 1\n")
    for cached in (code_version, versions._read, versions._imports):
        cached.cache_clear()
    assert code_version("second_part") == edited
