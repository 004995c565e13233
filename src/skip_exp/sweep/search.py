"""A search: the values of each job follow from the objectives of those before it, by Optuna.

The study is a file of the sweep's folder, whose name follows from the command. The same command
goes on with the job that was interrupted and makes the trials that are missing.
"""

import math
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from skip_exp.cache.version import digest, job_code
from skip_exp.config.checks import positive, require
from skip_exp.config.schema import list_objectives, register_resolver
from skip_exp.errors import SkipError
from skip_exp.sweep.finish import STARTED, SWEEP

TARGET = "hydra_plugins.skip_exp_search.Search"
STUDY = "study.db"  # in the sweep's folder


def is_search(hydra: Any) -> bool:
    return bool(hydra.sweeper._target_ == TARGET)


def parse_overrides(hydra: Any) -> dict[str, Override]:
    """The overrides of a sweep, by key: those of its files, and those of the command.

    The last override of a key wins: a value of the command line replaces that of a sweep file.

    Args:
        hydra: the node ``hydra`` of the sweep's configuration.
    """
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    outer = GlobalHydra.instance()  # without it, glob(*) cannot be read
    parser = OverridesParser.create(outer.config_loader() if outer.is_initialized() else None)
    parsed = parser.parse_overrides([*params, *hydra.overrides.task])
    return {each.get_key_element(): each for each in parsed}


def name_command(hydra: Any) -> str:
    """The name of a sweep, the same for every run of the same command."""
    identity = _identify(hydra.job.config_name, hydra.overrides.task, hydra.sweeper.get("params"))
    name = "sweep" if identity[0] == "config" else identity[0]
    return f"{name}-{digest(identity)[:8]}"


def _identify(config_name: str, overrides: Any, params: Any) -> list[Any]:
    return [config_name, sorted(overrides), OmegaConf.to_container(params or OmegaConf.create({}))]


def name_search(config_name: str, overrides: Any, params: Any, direction: Any) -> str:
    """The name of a search: all its trials come from one command and one code."""
    identity = _identify(config_name, overrides, params)
    return digest([identity, _list_directions(direction), job_code()])[:8]


# At import, because a launcher's worker composes its job's configuration before it runs the job.
# There the name is that in the cache, as the time in other folders: a job has overrides of its own.
register_resolver("search_name", name_search, replace=True, use_cache=True)


def list_ends(hydra: Any) -> list[list[str]]:
    """The overrides of two jobs, at the two ends of the space that is searched."""
    ends = {}
    for key, override in parse_overrides(hydra).items():
        value: Any = override.value()
        if override.is_interval_sweep():
            values = [value.start, value.end]
        elif override.is_range_sweep():
            values = _sort_range(override)
        elif override.is_sweep_override():
            values = [*override.sweep_string_iterator()]
        else:
            values = [override.get_value_element_as_str()]
        ends[key] = values[0], values[-1]
    return [[f"{key}={both[i]}" for key, both in ends.items()] for i in (0, 1)]


def check_search(hydra: Any, objectives: list[str]) -> None:
    """Raise SkipError where a search cannot be made: without Optuna, an objective or a space."""
    if find_spec("optuna") is None:
        raise SkipError("hparams_search: needs the package: pip install 'skip_exp[search]'")
    require(bool(objectives), "sweep.objective", None, "a search needs one, such as select/final")
    settings = hydra.sweeper
    require(
        len(_list_directions(settings.direction)) == len(objectives),
        "hydra.sweeper.direction",
        settings.direction,
        f"must be maximize or minimize, one for each of the {len(objectives)} objectives",
    )
    positive("hydra.sweeper", settings, n_trials=10**6, n_jobs=10**4)
    require(
        any(each.is_sweep_override() for each in parse_overrides(hydra).values()),
        "hydra.sweeper.params",
        settings.get("params"),
        "leaves nothing to search; e.g. tune.lr: tag(log, interval(0.0005, 0.01))",
    )


def check_trial(hydra: Any) -> None:
    """Raise SkipError where a search was meant and a single job is run."""
    searched = parse_overrides(hydra)
    if missing := [key for key, each in searched.items() if each.is_sweep_override()]:
        raise SkipError(f"hparams_search: a search needs -m; a single job a value of {missing[0]}")


def search(config: DictConfig, launcher: Launcher) -> None:
    """Make the trials that a study lacks; ``STARTED.best`` gets the best ones with their commands.

    A failed job counts as no trial: the next command makes another in its place.
    """
    import optuna  # takes a second

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    hydra = config.hydra
    settings, folder = hydra.sweeper, Path(hydra.sweep.dir)
    OmegaConf.save(config, folder / SWEEP)
    overrides = parse_overrides(hydra)
    space = {k: _distribution(each) for k, each in overrides.items() if each.is_sweep_override()}
    study = optuna.create_study(
        study_name=STARTED.search,
        storage=f"sqlite:///{folder}/{STUDY}",
        directions=_list_directions(settings.direction),
        load_if_exists=True,
    )
    missing = settings.n_trials - len(_list_done(study))
    while missing > 0:
        trials = _next_trials(study, space, settings, min(missing, settings.n_jobs))
        jobs = [_fill(overrides, params) for params in trials.values()]
        returns = launcher.launch(jobs, initial_job_idx=min(trials))
        for number, returned in zip(trials, returns, strict=True):
            values = returned.return_value
            found = values if isinstance(values, tuple) else (values,)
            if any(map(math.isnan, found)):
                study.tell(number, state=optuna.trial.TrialState.FAIL)
                STARTED.failed = True
            else:
                study.tell(number, found)
        missing -= len(trials)
    STARTED.best = _describe_best(study, config, overrides)


def _list_directions(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])


def _list_done(study: Any) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _next_trials(
    study: Any, space: dict[str, Any], settings: Any, count: int
) -> dict[int, dict[str, Any]]:
    """The values of the next trials, by number: first those of jobs that were interrupted.

    The sampler is seeded by the number of the trial, so that a search that goes on draws what an
    undisturbed one draws.
    """
    import optuna  # takes a second

    begun = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    for trial in begun:
        if trial.params.keys() != space.keys():  # interrupted while its values were written
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    begun = [trial for trial in begun if trial.params.keys() == space.keys()]
    if not begun:
        sampler = getattr(optuna.samplers, settings.sampler)
        seed = settings.seed + len(study.trials)
        study.sampler = sampler(seed=seed, **(settings.options or {}))
        begun = [study.ask(space) for _ in range(count)]
    return {trial.number: trial.params for trial in begun}


def _distribution(override: Override) -> Any:
    """The distribution of Optuna's for a sweep of Hydra's; in order, even where it is shuffled."""
    from optuna import distributions  # takes a second

    value: Any = override.value()
    if override.is_interval_sweep():
        low, high, how = value.start, value.end, {"log": "log" in value.tags}
    elif override.is_range_sweep():
        values = _sort_range(override)
        low, high, how = values[0], values[-1], {"step": abs(value.step)}
    else:
        return distributions.CategoricalDistribution(sorted(override.sweep_string_iterator()))
    is_whole = isinstance(low, int)
    kind = distributions.IntDistribution if is_whole else distributions.FloatDistribution
    return kind(low, high, **how)


def _sort_range(override: Override) -> list[Any]:
    """The values of a ``range(...)``, without what adding up its step leaves in the last digits."""
    values: list[Any] = sorted(override.sweep_iterator())
    return [float(f"{each:.6g}") if isinstance(each, float) else each for each in values]


def _fill(overrides: dict[str, Override], params: dict[str, Any]) -> list[str]:
    """The overrides of a job: fixed values, and those of a trial, rounded as tables show them."""
    fixed = {k: each.get_value_element_as_str() for k, each in overrides.items() if k not in params}
    drawn = {k: f"{each:.6g}" if isinstance(each, float) else each for k, each in params.items()}
    return [f"{key}={value}" for key, value in (fixed | drawn).items()]


def _describe_best(study: Any, config: DictConfig, overrides: dict[str, Override]) -> list[str]:
    """Two lines for the best trial, or for each that no other beats in every objective."""
    done = _list_done(study)
    names = list_objectives(config.sweep.objective)
    first = {tuple(trial.values): trial for trial in reversed(study.best_trials)}  # of equal ones
    lines = []
    for trial in sorted(first.values(), key=lambda trial: trial.values, reverse=True):
        values = ", ".join(f"{n} {v:.4g}" for n, v in zip(names, trial.values, strict=True))
        lines.append(f"best:    job {trial.number + 1} of {len(done)} trials: {values}")
        words = _fill(overrides, trial.params)
        lines.append(f"again:   {_write_command(config.hydra, words)}")
    return lines


def _write_command(hydra: Any, overrides: list[str]) -> str:
    """The command that runs one job of the search again."""
    words = ["python", "-m", "skip_exp"]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", source.path]
    if hydra.job.config_name != "config":  # a sweep file, whose mode is that of a sweep
        words += ["--config-name", hydra.job.config_name, "hydra.mode=RUN"]
    return shlex.join([*words, *overrides])
