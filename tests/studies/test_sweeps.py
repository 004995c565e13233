"""The tasks of the studies compose."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from skip_exp.config import schema

SWEEPS = Path(__file__).resolve().parents[2] / "studies" / "sweeps"


def test_every_task_composes() -> None:
    schema.register()
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        search = f"hydra.searchpath=[file://{SWEEPS}]"
        for task in SWEEPS.glob("task/*.yaml"):
            cfg = compose("config", [search, f"+task={task.stem}", "output_dir=."])
            assert cfg.task.name == task.stem
