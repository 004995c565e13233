"""The rows that a skill's job read, from their source: a skill itself holds no texts."""

from pathlib import Path

from skip_exp import results
from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig, to_object
from skip_exp.data.rows import Rows
from skip_exp.errors import SkipError
from skip_exp.skill.files import job_result
from skip_exp.skill.record import SkillRecord


def read_job_rows(about: SkillRecord, folder: Path | None) -> Rows:
    """All splits of the task of the skill in ``folder``.

    Args:
        folder: of the skill, beside which a result names the source of the rows.

    Raises:
        SkipError: no result names them, or they cannot be read or are not those that the job read.
    """
    from skip_exp.data.sources import load_rows  # takes seconds, and few need it

    result = job_result(folder)
    config = result.get("config", {})
    task, data = config.get("task"), config.get("data", {})
    if not task:
        raise SkipError(f"no {results.FILE} beside {folder} names the job's rows")
    source, _, place = str(about.scores.data).partition(":")
    options = DataConfig(
        source=source,
        dir=data.get("dir") or place if source == "local" else None,
        drop_bad=data.get("drop_bad", False),
        deduplicate=data.get("deduplicate", False),
        sep=data.get("sep"),
        encoding=data.get("encoding", "utf-8"),
    )
    rows = load_rows(to_object(task, TaskConfig), options, config.get("seed", 1))
    if result.get("data_hash") not in (None, rows.read):
        raise SkipError(f"the rows of {rows.source} have changed since the job read them")
    return rows
