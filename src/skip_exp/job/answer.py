"""The answer to a job that is done: its files from the cache, and a timing that holds here.

Imports no torch, so that a repeated command is answered within two seconds.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.cache.store import JOB_STAGE, Entry, read_files, stage_key, unpack_files
from skip_exp.config.schema import Config
from skip_exp.job.identity import find_content, find_place, find_precision, job_key
from skip_exp.utils import files

log = logging.getLogger(__name__)

TIMING = "time_models"  # the stage of timings: see phases.benchmark


def answer_known(cfg: Config) -> results.Result | None:
    """The result of a job that is done, where that is certain before torch is loaded.

    Raises:
        SkipError: the output folder cannot be written, or holds another job's finished result.
    """
    content, precision = find_content(cfg), find_precision(cfg.trainer)
    known = [content.data, content.backbone, content.start, precision]
    if not cfg.cache.dir or not cfg.sweep.skip_done or precision is None or None in known:
        return None
    key, root = job_key(cfg, content, precision), Path(cfg.cache.dir)
    done = read_files(root / JOB_STAGE / f"{key}.safetensors")
    if done is None:
        return None
    latency: Mapping[str, Any] = {}
    if cfg.benchmark.enabled:
        timing = stage_key(TIMING, timing_arguments(cfg, key))
        timed = read_files(root / TIMING / f"{timing}.safetensors")
        if timed is None:
            return None
        latency = timed.values
    write_config(cfg, key)
    unpack_files(done, Path(cfg.output_dir))
    log.info("done before: answered from %s", cfg.cache.dir)
    return write_result(cfg, done, latency)


def timing_arguments(cfg: Config, key: str) -> dict[str, Any]:
    """What a timing depends on: the job, the sizes, and the place where it is taken."""
    place = find_place(cfg.trainer.accelerator)
    return {"job": key, "settings": cfg.benchmark, "place": place}


def write_config(cfg: Config, key: str) -> None:
    """The resolved configuration, beside where the result will be.

    Raises:
        SkipError: the folder cannot be written, or holds another job's finished result.
    """
    output = Path(cfg.output_dir)
    results.check_folder(output, key)
    content = OmegaConf.to_yaml(OmegaConf.create(asdict(cfg))).encode()
    files.save(output / results.CONFIG_FILE, content, f"output_dir={output}")


def write_result(
    cfg: Config,
    done: Entry,
    latency: Mapping[str, Any],
    seconds: Mapping[str, float] | None = None,
) -> results.Result:
    """Write the result of a finished job as that of ``cfg``, and return it.

    Args:
        seconds: by phase, where the job has just run.

    Raises:
        SkipError: the file cannot be written.
    """
    stored = results.Result(**done.values["result"])
    # The same job in another sweep, from another place: its prompt may be that of its start.
    config = asdict(cfg) | {"prompt": stored.config["prompt"]}
    rounded = {phase: round(value, 3) for phase, value in (seconds or {}).items()}
    result = stored.replace(
        config=config,
        sweep=cfg.sweep.id,
        latency=dict(latency),
        seconds=rounded,
    )
    results.write(Path(cfg.output_dir), result)
    return result
