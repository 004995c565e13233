"""Whatever one result file holds, the healthy ones beside it are reported."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import strategies as st

from skip_exp import results
from skip_exp.commands.report import main
from skip_exp.report import cells, frame, tables
from tests.helpers.fakes import result, store
from tests.helpers.hostile import altered_bytes, altered_json, examples

HEALTHY = [result(seed=1), result(seed=2)]
OTHER = result("rte", seed=1)


def odd_files() -> st.SearchStrategy[bytes]:
    as_json = altered_json(OTHER).map(lambda odd: json.dumps(odd).encode())
    return st.one_of(as_json, as_json, altered_bytes(json.dumps(OTHER).encode()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store(tmp_path / "jobs", [*HEALTHY, OTHER])


def test_whatever_a_result_holds_the_others_are_read(folder: Path) -> None:
    def check(content: bytes) -> None:
        (folder / "0002/result.json").write_bytes(content)
        loaded = results.load(folder)
        assert [each.job_id for each in loaded[:2]] == [each["job_id"] for each in HEALTHY]
        assert len(frame.load([folder])) == len(loaded)

    examples(20, odd_files(), check)


@pytest.mark.slow
def test_whatever_a_result_holds_the_others_are_reported(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"

    def check(content: bytes) -> None:
        (folder / "0002/result.json").write_bytes(content)
        with redirect_stdout(io.StringIO()):
            assert main([str(folder), "--out", str(out)]) == 0
        assert all(each["job_id"] in (out / "results.csv").read_text() for each in HEALTHY)
        tables.lines(cells.gather(frame.load([out / "results.csv"])).cells)
        tables.job_table(results.load(folder))

    examples(200, odd_files(), check)
