"""Whatever an entry holds, it is computed again or right."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from skip_exp.cache.store import Entry, StageCache
from tests.helpers.hostile import altered_bytes, altered_json, examples

EXPECTED = Entry({"x": torch.arange(6.0), "y": torch.ones(2, 3)}, {"score": 0.5, "names": ["a"]})


def get(cache: Path, seed: int = 1) -> Entry:
    return StageCache(cache).get("tune", {"seed": seed}, lambda: EXPECTED)


def odd_entries(path: Path) -> st.SearchStrategy[bytes]:
    """Of an entry's file: bytes altered, or what its header says of it."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    document = json.loads(metadata["json"])

    def with_json(odd: object) -> bytes:
        return save(EXPECTED.tensors, metadata | {"json": json.dumps(odd)})

    return st.one_of(altered_bytes(path.read_bytes()), altered_json(document).map(with_json))


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_cache_entry(tmp_path: Path, count: int) -> None:
    cache = tmp_path / "cache"
    get(cache)
    (path,) = cache.glob("tune/*.safetensors")
    get(cache, seed=2)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        entry = get(cache)
        assert entry.values == EXPECTED.values
        assert all(torch.equal(entry.tensors[name], t) for name, t in EXPECTED.tensors.items())
        assert get(cache).hit

    examples(count, odd_entries(path), check)
