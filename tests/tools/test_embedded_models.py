"""The scripts that made the embedded models still make models of their shape."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from skip_exp.backbones import embedded
from skip_exp.skill.files import read_skill
from skip_exp.skill.skill import Skill
from tests.helpers.written import ROOT


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_of_a_premise_share_a_split_and_scored_premises_are_left_out(tmp_path: Path) -> None:
    module = tool("train_nli_skill")
    scored = module.scored_premises()
    assert 400 < len(scored) < 700
    taken = [f"premise {i}" for i in range(300)]
    pairs = [(premise, i) for premise in [*taken, *sorted(scored)] for i in range(3)]
    rows = [{"premise": a, "hypothesis": f"{b}", "label": b, "idx": 0} for a, b in pairs]
    paths = module.write_rows(rows, scored, tmp_path)
    found = {
        split: [json.loads(line) for line in Path(path).read_text().splitlines()]
        for split, path in paths.items()
    }
    premises = {split: {row["premise"] for row in each} for split, each in found.items()}
    assert sorted(name for each in premises.values() for name in each) == sorted(taken)
    assert all(len(found[split]) == 3 * len(premises[split]) for split in found)
    assert len(premises["train"]) > 250 and premises["select"] and premises["validation"]


@pytest.mark.slow
def test_the_nli_skill(tmp_path: Path) -> None:
    pytest.importorskip(embedded.PACKAGE)
    rows = [
        {"premise": f"there are {i} films", "hypothesis": f"{i + j} films", "label": j}
        for i in range(300)
        for j in range(3)
    ]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = [str(tmp_path / name) for name in ("pool.jsonl", "out")]
    small = ["tune.epochs=1", "tune.min_steps=0", "attribution=magnitude"]
    tool("train_nli_skill").main([*given, "--ship", str(tmp_path / "skill"), *small])
    found, ours = (read_skill(f)[0] for f in (tmp_path / "skill", embedded.SKILLS / "nli-minilm"))
    assert found == ours
    assert (tmp_path / "skill/skill.safetensors").stat().st_size < 2**20
    assert set(Skill.load(tmp_path / "skill").predict([("a film", "a film")])[0]) >= {"label"}
