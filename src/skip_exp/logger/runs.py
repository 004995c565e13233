"""Opens and closes W&B runs, and logs what a finished job leaves.

A run uses a data and a backbone artifact and logs its skill as an artifact. The inputs are small
JSON descriptions; neither rows nor weights are uploaded, but for the texts of mistakes if
``logger.texts`` asks for them. W&B creates a new version whenever content
changes, so the descriptions hold no path and nothing specific to a job.
"""

import json
import logging
import netrc
import os
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb
from lightning.pytorch.utilities import rank_zero_only

from skip_exp import results
from skip_exp.config.checks import one_of, project
from skip_exp.config.names import FITS
from skip_exp.config.schema import Config
from skip_exp.config.train import BASELINES
from skip_exp.errors import INTERRUPTED, ConfigError, SkipError
from skip_exp.logger import answers, picture
from skip_exp.logger.others import PROJECT, name_run
from skip_exp.utils import files

log = logging.getLogger(__name__)

LONGEST_TAG = 64  # characters that W&B takes
WAIT = 15.0  # seconds to wait for W&B's server when a run starts and ends
MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")  # of WANDB_MODE
STAGED = "WANDB_DATA_DIR"  # W&B stages uploads in this folder
# Result fields in the metadata of a skill artifact; without measured times, which vary.
ABOUT = (
    *("job_id", "task", "backbone", "family", "prompt/kind", "prompt/length", "readout", "seed"),
    *("attribution", "ratio", "ratio_reached", "metric/name", "metric/dense", "metric/final"),
    *("params/block_pruned", "params/all_pruned", "data_is_sample"),
)

_is_gone = False  # the server stopped answering; later jobs of this process do not wait for it
_run: wandb.Run | None = None  # of this process's job; `wandb.run` may be the caller's own


@rank_zero_only
def open_run(cfg: Config, unfinished: Path | None = None) -> wandb.Run:
    """Open a job's W&B run.

    With mode ``auto`` the run is offline if W&B cannot be reached, now or in an earlier job.

    Args:
        unfinished: file for the run's id, by which a job that was killed goes on with its run.

    Raises:
        ConfigError: online without a key; no mode or project of W&B's in the environment.
        SkipError: W&B refuses (a bad key, an unknown entity).
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    global _is_gone, _run
    mode = mode_of(cfg.logger.mode)
    name, run_id = project_of(cfg.logger.project), find_id(unfinished)
    try:
        run = _run = _init(cfg, name, mode, run_id)
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        if cfg.logger.mode != "auto":
            raise SkipError(f"logger.mode={cfg.logger.mode}: W&B refused: {reason}") from error
        log.warning("W&B: cannot be reached, logging offline: %s", reason)
        _is_gone = True
        run = _run = _init(cfg, name, "offline", None)  # W&B's service still holds the id
    for phase in FITS:  # each fits anew, so Lightning's global step starts again
        run.define_metric(f"{phase}/step", hidden=True)
        # `build.PhaseLogger` writes the summary, for the epoch that the phase kept.
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step", summary="none")
    if run.offline:
        runs = shlex.quote(os.path.dirname(_folder(run)))  # short, so it does not wrap
        log.info("W&B: offline; upload with:\n  wandb sync %s/offline-run-*", runs)
    elif not run.disabled:
        log.info("W&B: %s", run.url)
    return run


def find_id(unfinished: Path | None) -> str | None:
    """The id of a job's W&B run, the same until the job is done; None leaves it to W&B."""
    if unfinished is None or os.environ.get("WANDB_RUN_ID"):  # an agent of a W&B sweep sets it
        return None
    if not unfinished.exists():
        files.replace(unfinished, secrets.token_hex(4).encode())
    return unfinished.read_text()


def _init(cfg: Config, name: str, mode: Any, run_id: str | None) -> wandb.Run:
    """Start a run of the project ``name``, named and tagged after the job's configuration."""
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=WAIT,
        finish_timeout=WAIT,
        finish_timeout_raises=True,
        x_save_requirements=False,
    )
    tags = [cfg.task.name, cfg.backbone.label, cfg.prompt.kind, cfg.attribution.name]
    return wandb.init(
        project=name,
        entity=cfg.logger.entity,
        group=cfg.logger.group or cfg.sweep.id,
        job_type=job_type(cfg),
        name=name_run(cfg),
        notes=cfg.logger.notes,
        tags=[tag[:LONGEST_TAG] for tag in dict.fromkeys([*tags, *cfg.logger.tags]) if tag],
        config=asdict(cfg),
        id=run_id,
        resume="allow" if run_id else None,
        dir=cfg.output_dir,
        mode=mode,
        reinit="create_new" if wandb.run else None,  # a run of the caller's own goes on
        settings=settings,
    )


def job_type(cfg: Config) -> str:
    """``prune``, ``dense_continued`` (ratio 0) or ``baseline`` (no prompt or a full model)."""
    if cfg.prune.goal.ratio != 0:
        return "prune"
    if cfg.prompt.kind == "none" or cfg.tune.train in BASELINES:
        return "baseline"
    return "dense_continued"


def mode_of(mode: str) -> str:
    """W&B's mode; ``auto`` is WANDB_MODE, else that of W&B's settings; online only with a key.

    Raises:
        ConfigError: online without a key, or WANDB_MODE is no mode of W&B's.
    """
    given = os.environ.get("WANDB_MODE")
    if mode != "auto":
        asked = "logger.mode"
    elif given:
        one_of("WANDB_MODE", given, MODES)
        asked, mode = "WANDB_MODE", given
    else:  # what `wandb offline` or `wandb disabled` wrote, here or for this user
        asked, mode = "", read_settings().mode
    if mode == "online" and not has_key():
        if not asked:
            return "offline"
        needs = "needs an API key: set WANDB_API_KEY, run `wandb login` or use offline"
        raise ConfigError(asked, mode, needs)
    if mode == "online" and _is_gone and asked != "logger.mode":
        return "offline"
    return mode


def read_settings() -> wandb.Settings:
    """What the settings files of W&B say, in this folder and for this user."""
    settings = wandb.Settings(silent=True)
    settings.update_from_system_settings()
    return settings


def has_key() -> bool:
    """Whether W&B has credentials in the environment, in its settings or in the netrc file.

    Without them W&B itself would ask for a key. A malformed one is left to W&B to refuse.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = read_settings()
    if settings.api_key or settings.identity_token_file:
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or settings.base_url).netloc
    given = os.environ.get("NETRC")
    for file in [given] if given else ["~/.netrc", "~/_netrc"]:
        with suppress(OSError, UnicodeDecodeError, netrc.NetrcParseError):
            if netrc.netrc(os.path.expanduser(file)).authenticators(host):
                return True
    return False


def project_of(given: str | None) -> str:
    """The project that was given, else that of WANDB_PROJECT; may raise ConfigError."""
    if given:
        return given
    name = os.environ.get("WANDB_PROJECT") or PROJECT
    project("WANDB_PROJECT", name)
    return name


def log_result(
    run: wandb.Run,
    result: Mapping[str, Any],
    folder: Path,
    hashes: Mapping[str, str],
    texts: Sequence[str] | None = None,
) -> None:
    """Log a finished job's summary, picture, tables and artifacts.

    Args:
        hashes: ``fingerprint`` of the data and ``content_hash`` of the backbone.
        texts: of the validation split, for the table of mistakes; None: without them.
    """
    run.summary.update(results.flatten(result))
    if run.resumed:
        run.summary.update({"error": None})  # of the job before it went on
    if result.get("data_is_sample"):
        run.tags = (*(run.tags or ()), "stand-in")
    run.log({"keep": wandb.Image(str(folder / picture.PICTURE))})
    with stage_uploads(folder):
        # The table first: logging it contacts the server with a timeout. Artifacts queued for a
        # server that is gone would keep the run from ending.
        columns, rows = picture.table(result["keep_sizes"])
        run.log({"sites": wandb.Table(columns=columns, data=rows)})
        answers.log_answers(run, result, folder, texts)
        log_artifacts(run, result, folder, hashes)


@contextmanager
def stage_uploads(folder: Path) -> Iterator[None]:
    """Stage W&B uploads in ``folder``/wandb unless WANDB_DATA_DIR is set.

    W&B's default is the home folder, which may be missing when another cluster node syncs the run.
    """
    given = os.environ.get(STAGED)
    os.environ[STAGED] = given or str(folder / "wandb")
    try:
        yield
    finally:
        if given is None:
            del os.environ[STAGED]


def log_artifacts(
    run: wandb.Run, result: Mapping[str, Any], folder: Path, hashes: Mapping[str, str]
) -> None:
    """Log the skill as the run's output; its data and its backbone are inputs.

    An offline run has no inputs in W&B, but the skill's metadata has their hashes.
    """
    task, backbone = result["task"], result["backbone"]
    mark = "-stand-in" if result["data_is_sample"] else ""
    trained = [result["config"][phase]["train"] for phase in FITS]
    if "full" not in trained:  # a whole model would fill the store
        flat = results.flatten(result)
        about = {name: flat[name] for name in ABOUT if name in flat}
        skill = make_artifact(f"skill-{task}-{backbone}{mark}", "model", {**about, **hashes})
        skill.add_dir(str(folder / result["skill"]))
        run.log_artifact(skill)
    if run.offline:
        return
    source = result["data_source"]
    data = {
        "task": task,
        "source": "local" if source.startswith("local:") else source,
        "is_sample": result["data_is_sample"],
        "fingerprint": hashes["fingerprint"],
    }
    weights = {name: result[name] for name in ("backbone", "family", "backbone_note")}
    weights["content_hash"] = hashes["content_hash"]
    for artifact in (
        make_artifact(f"data-{task}{mark}", "dataset", data),
        make_artifact(f"backbone-{backbone}", "backbone", weights),
    ):
        with artifact.new_file(f"{artifact.type}.json") as file:
            json.dump(artifact.metadata, file, indent=1, sort_keys=True)
        run.use_artifact(artifact)


def make_artifact(name: str, kind: str, about: dict[str, Any]) -> wandb.Artifact:
    """An artifact without files; its name has the characters and the length that W&B allows."""
    return wandb.Artifact(re.sub(r"[^a-zA-Z0-9_.-]", "_", name)[:128], kind, metadata=about)


def close(error: str | None = None) -> None:
    """Close the W&B run of this process's job, if any; an error marks it failed and sends an alert.

    Interrupted jobs send no alert. If W&B is unreachable, the data stay in the run's folder and a
    warning shows how to upload them.
    """
    global _is_gone, _run
    if (run := _run) is None:
        return
    _run = None
    folder = _folder(run)
    if error and error != INTERRUPTED:
        with suppress(Exception):  # W&B's failures are reported below
            run.alert(f"{run.name} failed"[:63], error, level="ERROR")
    try:
        if error:
            run.summary.update({"status": "failed", "error": error})
        run.finish(exit_code=1 if error else 0)
    except TimeoutError:
        command = f"wandb sync --include-online {shlex.quote(folder)}"
        log.warning("W&B: no answer from the server; upload this run later: %s", command)
        _is_gone = True
    except Exception as problem:  # a failed upload must not fail the job
        log.warning("W&B: cannot close the run: %s", problem)


def _folder(run: wandb.Run) -> str:
    """The run's folder, relative to the working directory."""
    return os.path.relpath(Path(run.dir).parent)
