"""From jobs at several ratios to the fastest model within some points, ready to load."""

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from skip_exp import results
from skip_exp.cache.version import digest
from skip_exp.config.schema import Config
from skip_exp.config.together import check
from skip_exp.data.batches import Row
from skip_exp.data.files import SELECT
from skip_exp.data.rows import Rows, get_labels, get_texts
from skip_exp.data.scores import Labels
from skip_exp.data.sources import Tables
from skip_exp.errors import ConfigError
from skip_exp.job.answer import write_config
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.pruning.allocate import most
from skip_exp.results import PREDICTIONS, Result
from skip_exp.skill.cascade import Cascade, open_classifier
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.forms import Speed, list_forms, megabytes, open_form, time_in_turns
from skip_exp.skill.record import Form
from skip_exp.within import show
from skip_exp.within.baselines import TfIdf
from skip_exp.within.choose import Answers, Candidate, Model, choose, join, list_candidates
from skip_exp.within.row import CHOSEN, make_result
from skip_exp.within.scores import Split

log = logging.getLogger(__name__)

CUTS = (0.9, 0.7, 0.52, 0.95)  # ratios, in the order in which they are tried
TIMED_TEXTS = 400  # texts that every model answers in turns
JOBS = "jobs"  # folder of the jobs, by ratio
EXPORTS = "int8"  # folder of the exports with 8-bit weights, by ratio
KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def find(
    cfg: Config,
    tables: Tables | None,
    budget: float | None,
    run_job: Callable[[Config], Result],
) -> Classifier:
    """The fastest model that loses at most ``prune.within`` points on the selection slice.

    They are points of the main metric below the best model; below the uncut one, where that is
    given and nothing is tuned. The folder ``cfg.output_dir`` then holds ``chosen/``,
    ``frontier.csv``, ``frontier.png`` and ``result.json``.

    Args:
        cfg: with ``prune.within``; the ratios of its jobs are set here.
        budget: minutes after which no further ratio is tried; None: all are.
        run_job: runs a job and returns its result.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    # Many models in one process: else oneDNN forgets kernels of one while the others answer.
    os.environ.setdefault(KERNELS, "65536")
    root, within = Path(cfg.output_dir), cast(float, cfg.prune.within)
    uncut = prepare(at_ratio(cfg, 0.0), tables)
    key, rows = digest([uncut.key, within])[:16], uncut.data
    select, validation = to_split(rows, rows.select), to_split(rows, rows.validation)
    if len({*select.labels}) == 1:  # which a constant answer fits
        why = f"the selection slice has a single label: give task.files.{SELECT} or a ratio"
        raise ConfigError("prune.within", within, why)
    write_config(cfg, key)
    ratios = [0.0, *list_ratios(uncut, cfg.prune.sites)]
    jobs = run_jobs([at_ratio(cfg, ratio) for ratio in ratios], budget, run_job)
    skills = {ratio: root / JOBS / f"{ratio:g}" / str(job.skill) for ratio, job in jobs.items()}
    words = TfIdf.fit(to_split(rows, rows.train), select)
    texts = [*select.texts, *validation.texts][:TIMED_TEXTS]
    models, words_speed, contended = measure(skills, words, select, texts, root / EXPORTS)
    reference = find_reference(models, select, is_given=cfg.tune.train == "none")
    least = select.score(reference.answers.predicted) - within / 100
    candidates = list_candidates([*models], select.score, least)
    candidates, chosen = choose_timed(candidates, least, models, texts)
    answers = {model: ask(classifier, validation) for model, classifier in models.items()}
    lines = [majority_line(rows, select, validation)]
    if words:
        lines.append(words_line(words, words_speed, select, validation))
    for each in candidates:
        lines.append(candidate_line(each, each is chosen, answers, models))
    place = save(chosen, models, validation, answers, root / CHOSEN)
    frame = show.to_frame(lines, validation)
    show.write(frame, root, validation.metric, contended=contended)
    (line,) = (each for each in lines if each.is_chosen)
    save_answers(validation.labels, line.predicted, root)
    results.write(root, make_result(cfg, key, jobs, frame, chosen, contended=contended))
    title = f"was it worth it? {validation.metric} on {len(validation.labels)} validation rows"
    told = show.explain(frame, chosen, reference, select, within, contended=contended)
    is_half = [model.form for model in chosen.models] == ["bf16"]
    show.tell(frame, lines, title, [*told, *show.next_steps(place, is_half)])
    return open_classifier(place, precision="bf16" if is_half else "32-true")


def at_ratio(cfg: Config, ratio: float) -> Config:
    """The configuration of a job that cuts so much; uncut, nothing is tuned again.

    Raises:
        ConfigError: values that exclude each other.
    """
    retune = replace(cfg.retune, enabled=cfg.retune.enabled and ratio > 0)
    data = cfg.data if retune.enabled else replace(cfg.data, unlabelled=None)
    job = replace(
        cfg,
        prune=replace(cfg.prune, ratio=ratio, within=None),
        retune=retune,
        data=data,
        benchmark=replace(cfg.benchmark, enabled=False),
        output_dir=str(Path(cfg.output_dir) / JOBS / f"{ratio:g}"),
    )
    check(job)
    return job


def list_ratios(uncut: Job, sites: list[str]) -> list[float]:
    """Those of CUTS that ``sites`` can reach; the log says what is left out."""
    shapes = [block.shape() for block in uncut.backbone.family.blocks(uncut.backbone.model)]
    reached = [ratio for ratio in CUTS if ratio <= most(shapes, sites)]
    if left_out := [f"{ratio:g}" for ratio in CUTS if ratio not in reached]:
        log.info("left out: ratio %s, beyond prune.sites=%s", ", ".join(left_out), sites)
    return reached


def run_jobs(
    jobs: Sequence[Config], budget: float | None, run_job: Callable[[Config], Result]
) -> dict[float, Result]:
    """The result of every job, by ratio. The first one runs, whatever the budget in minutes."""
    done: dict[float, Result] = {}
    begin, last = time.monotonic(), 0.0
    for job in jobs:
        start = time.monotonic()
        if budget is not None and done and start - begin + last > 60 * budget:
            log.info("budget: %d of %d ratios are done, no further one", len(done), len(jobs))
            break
        log.info("ratio %g: job %d of %d", job.prune.ratio, len(done) + 1, len(jobs))
        done[job.prune.ratio] = run_job(job)
        last = time.monotonic() - start
    return done


def to_split(rows: Rows, part: Sequence[Row]) -> Split:
    """Some of the rows, to be scored by the task's main metric."""
    texts = [list(each) for each in get_texts(part)]
    return Split(texts, np.array(get_labels(part)), rows.spec.metrics[0], rows.spec.num_labels)


def ask(classifier: Classifier, split: Split) -> Answers:
    answers = np.array(classifier.probabilities(split.texts))
    return Answers(answers.argmax(1), answers.max(1))


def measure(
    skills: Mapping[float, Path],
    words: TfIdf | None,
    select: Split,
    texts: list[list[str]],
    exports: Path,
) -> tuple[dict[Model, Classifier], Speed | None, bool]:
    """Every skill in every form, with answers on the slice and speed; that of ``words``, too.

    Returns the models, the baseline's speed, and whether other processes took cores.
    """
    forms, opened = list_forms(), list[tuple[float, Form, Classifier]]()
    for ratio, skill in skills.items():
        log.info("ratio %g: opening it in %s", ratio, ", ".join(forms))  # an export takes a while
        for form in forms:
            classifier = open_form(skill, form, exports / f"{ratio:g}")
            if classifier is not None:
                opened.append((ratio, form, classifier))
    calls: list[Callable[[list[list[str]]], object]] = []
    calls += [classifier.probabilities for _, _, classifier in opened]
    if words:
        calls.append(words.predict)
    log.info("timing %d models on %d texts, in turns", len(calls), len(texts))
    speeds, contended = time_in_turns(calls, texts)
    models = {}
    for (ratio, form, classifier), speed in zip(opened, speeds, strict=False):
        model = Model(ratio, form, ask(classifier, select), speed.texts, speed.spread)
        models[model] = classifier
    return models, speeds[-1] if words else None, contended


def find_reference(models: Iterable[Model], select: Split, *, is_given: bool) -> Model:
    """The model with the best score on the slice; the uncut one in fp32, where that is given."""
    if is_given:
        models = [each for each in models if (each.ratio, each.form) == (0.0, "fp32")]
    return max(models, key=lambda each: select.score(each.answers.predicted))


def choose_timed(
    candidates: list[Candidate],
    least: float,
    models: Mapping[Model, Classifier],
    texts: list[list[str]],
) -> tuple[list[Candidate], Candidate]:
    """The choice; a cascade is timed beside the best single model, and must be faster there.

    Returns the candidates, the two with the speeds that were measured last, and the chosen one.
    """
    chosen = choose(candidates, least)
    if len(chosen.models) == 1:
        return candidates, chosen
    single = choose([each for each in candidates if len(each.models) == 1], least)
    both = [single, chosen]
    calls = [to_classifier(each, models).probabilities for each in both]
    speeds, _ = time_in_turns(calls, texts)
    timed = []
    for each, speed in zip(both, speeds, strict=True):
        timed.append(replace(each, speed=speed.texts, spread=speed.spread))
    others = [each for each in candidates if each not in both]
    return [*others, *timed], choose(timed, least)


def to_classifier(candidate: Candidate, models: Mapping[Model, Classifier]) -> Classifier:
    members = [models[model] for model in candidate.models]
    if len(members) == 1:
        return members[0]
    return replace(Cascade.of(members, candidate.thresholds), sent_on=candidate.sent_on)


def save(
    chosen: Candidate,
    models: Mapping[Model, Classifier],
    validation: Split,
    answers: Mapping[Model, Answers],
    folder: Path,
) -> Path:
    """Write the chosen model or cascade into ``folder``, and return that."""
    shutil.rmtree(folder, ignore_errors=True)  # of the same search, run before
    classifier = to_classifier(chosen, models)
    if isinstance(classifier, Cascade):
        predicted, _ = join([answers[model] for model in chosen.models], chosen.thresholds)
        score = validation.score(predicted)
        classifier = replace(classifier, select=chosen.select, validation=score)
    return classifier.save(folder)


def save_answers(labels: Labels, predicted: Labels, folder: Path) -> None:
    """What the chosen model predicts on the validation split, as a job leaves it."""
    table = pd.DataFrame({"label": labels, "predicted": predicted})
    table.to_csv(folder / PREDICTIONS, index=False)


def majority_line(rows: Rows, select: Split, validation: Split) -> show.Line:
    """Always answering the train rows' most frequent class."""
    answer, _ = Counter(get_labels(rows.train)).most_common(1)[0]
    constant = [np.full(len(split.labels), answer) for split in (select, validation)]
    return show.Line("majority class", select.score(constant[0]), constant[1])


def words_line(words: TfIdf, speed: Speed | None, select: Split, validation: Split) -> show.Line:
    return show.Line(
        what=show.TF_IDF,
        select=select.score(words.predict(select.texts)),
        predicted=words.predict(validation.texts),
        speed=speed.texts if speed else None,
        spread=speed.spread if speed else None,
        mb=words.megabytes,
    )


def candidate_line(
    each: Candidate,
    is_chosen: bool,
    answers: Mapping[Model, Answers],
    models: Mapping[Model, Classifier],
) -> show.Line:
    predicted, _ = join([answers[model] for model in each.models], each.thresholds)
    return show.Line(
        what=show.name(each),
        select=each.select,
        predicted=predicted,
        speed=each.speed,
        spread=each.spread,
        mb=sum(megabytes(models[model]) for model in each.models),
        candidate=each,
        is_chosen=is_chosen,
    )
