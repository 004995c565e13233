"""From jobs at several ratios to the fastest model within some points."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from skip_exp import results
from skip_exp.cache.version import code_of, digest
from skip_exp.config.checks import require
from skip_exp.config.schema import Config
from skip_exp.data.rows import SELECT
from skip_exp.forms.registry import FILES, FORMS, list_available
from skip_exp.outcomes.scores import Labels
from skip_exp.phases.prepare import prepare
from skip_exp.pipeline import write_config
from skip_exp.results import PREDICTIONS, Calibration, Choice, Latency, MainScores, Result, Scores
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.record import read_about
from skip_exp.utils import timing
from skip_exp.within import show
from skip_exp.within.baselines import describe_baselines, fit_baselines
from skip_exp.within.choose import Cut, Split, choose, judge, limit_share
from skip_exp.within.cuts import JOBS, list_cuts, name_cut, of_cut
from skip_exp.within.measure import SavedModel, on_threads, predict, save_all, time_beside

log = logging.getLogger(__name__)

CHOSEN = "chosen"  # folder of the model that is chosen
KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def find(cfg: Config, run_job: Callable[[Config], Result]) -> Classifier:
    """The fastest model that loses at most ``prune.within`` points to the uncut one.

    The 90 % limit of its loss, by the selection slice, must stay within them. By ``prune.fastest``
    the time of one text counts, or batches. The folder ``cfg.output_dir`` then
    holds ``chosen/``, ``frontier.csv``, ``frontier.png`` and ``result.json``.

    Args:
        cfg: with ``prune.within``; the ratios of its jobs are set here.
        run_job: runs a job and returns its result.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    # Many models in one process: else oneDNN forgets kernels of one while the others answer.
    os.environ.setdefault(KERNELS, "65536")
    search = Search(cfg, run_job)
    search.claim_folder()
    search.plan_cuts()
    search.try_cuts()
    search.choose_model()
    search.describe_models()
    search.save_chosen()
    search.write_result()
    search.explain_choice()
    return FORMS[search.chosen.form].open(search.folder / CHOSEN)


class Search:
    """A search with a method per step; each fills in what the next ones need.

    Attributes:
        bound: what a model may lose, a fraction.
        select: the slice by which a model is chosen.
        validation: the rows whose scores are reported.
        key: stands for the search, as `job_id`.
        cuts: none first, then the fastest ones first, so that none is missed.
        jobs: results of the jobs, by cut.
        models: every skill in every form, the uncut one first.
        candidates: of ``models``, in their order; they have a speed once they are timed.
        classifiers: ``models``, opened.
        answers: of the chosen model to the validation split, as probabilities.
        frame: see :func:`skip_exp.within.show.to_frame`.
    """

    def __init__(self, cfg: Config, run_job: Callable[[Config], Result]) -> None:
        self.cfg = cfg
        self.run_job = run_job
        self.folder = Path(cfg.output_dir)
        self.bound = cast(float, cfg.prune.within) / 100
        self.uncut_job = prepare(of_cut(cfg, Cut(0.0)))
        self.rows = self.uncut_job.data
        self.select = Split.of(self.rows, self.rows.select)
        self.validation = Split.of(self.rows, self.rows.validation)
        self.jobs: dict[Cut, Result] = {}
        self.models: list[SavedModel] = []
        self.steps = 0

    def announce(self, step: str) -> None:
        """Log which step begins."""
        self.steps += 1
        log.info("step %d of %d: %s", self.steps, len(self.cuts) + 2, step)

    def claim_folder(self) -> None:
        """Write the configuration.

        Raises:
            SkipError: a constant answer fits the selection slice, or the folder is that of another
                search.
        """
        require(
            len(set(self.select.labels)) > 1,
            "prune.within",
            self.cfg.prune.within,
            f"the selection slice has a single label: give task.files.{SELECT} or a ratio",
        )
        uncut = self.uncut_job
        # The search has settings that its uncut job has not, and a way to choose.
        job = replace(uncut, cfg=replace(uncut.cfg, prune=self.cfg.prune, retune=self.cfg.retune))
        self.key = digest([job.key, code_of(__name__)])[:16]
        write_config(self.cfg, self.key)

    def plan_cuts(self) -> None:
        """The cuts to try: all that can be reached, or none."""
        reached = list_cuts(self.uncut_job, self.cfg.prune)
        self.cuts = [Cut(0.0)]
        # Too few rows do not show so small a loss, whatever a cut answers.
        if limit_share(0, len(self.select.labels)) <= self.bound:
            self.cuts += reached

    def try_cuts(self) -> None:
        """Jobs, models and candidates, until a cut stays within the bound in every form."""
        forms = list_available()
        predictions: list[Labels] = []
        for cut in self.cuts:
            self.announce(str(cut))
            self.jobs[cut] = self.run_job(of_cut(self.cfg, cut))
            for model in save_all(cut, self.find_skill(cut), forms, self.folder / FILES):
                self.models.append(model)
                predictions.append(predict(model, self.select))
            names = [(model.cut, model.form.name) for model in self.models]
            self.candidates = judge(names, predictions, self.select)
            limits = [candidate.limit for candidate in self.candidates if candidate.cut == cut]
            # The cuts that follow are slower.
            if cut.ratio and max(limits) <= self.bound:
                break

    def find_skill(self, cut: Cut) -> Path:
        """The folder of the skill that a job has left."""
        return self.folder / JOBS / name_cut(cut) / str(self.jobs[cut].skill)

    def choose_model(self) -> None:
        """Open the models, time them beside the baselines, and choose by the speeds that count."""
        self.announce("baselines")
        self.baselines = fit_baselines(
            self.uncut_job,
            read_about(self.find_skill(self.cuts[0])),
            Split.of(self.rows, self.rows.train),
        )
        self.announce("timing")
        with on_threads(1):
            ones = [model.open() for model in self.models]
        self.classifiers = [model.open() for model in self.models]
        self.timing = time_beside(
            ones, self.classifiers, self.baselines, self.select, self.validation
        )
        for i, speed in enumerate(self.timing.models):
            self.candidates[i] = replace(
                self.candidates[i], speed=speed.rate(self.cfg.prune.fastest)
            )
        self.chosen = choose(self.candidates, self.bound)

    def describe_models(self) -> None:
        """Write the scores of baselines and models on the validation split."""
        lines = describe_baselines(
            self.rows,
            self.baselines,
            self.timing.baselines,
            self.select,
            self.validation,
        )
        models = zip(self.candidates, self.classifiers, self.timing.models, strict=True)
        for candidate, classifier, speed in models:
            probabilities = np.array(classifier.probabilities(self.validation.texts))
            if candidate is self.chosen:
                self.answers = probabilities
            lines.append(
                show.Line(
                    model=candidate.name,
                    select=candidate.select,
                    predicted=probabilities.argmax(1),
                    speed=speed,
                    mb=classifier.megabytes,
                    candidate=candidate,
                    is_chosen=candidate is self.chosen,
                )
            )
        self.frame = show.to_frame(lines, self.validation)
        metric = self.validation.metric
        show.write(self.frame, self.folder, metric, contended=self.timing.contended)

    def save_chosen(self) -> None:
        """Write the chosen model, and its answers to the validation split, as a job has them."""
        classifier = self.classifiers[self.candidates.index(self.chosen)]
        labels = self.validation.labels.tolist()
        answers = self.rows.spec.outcome.tabulate(labels, self.answers, None)
        pd.DataFrame(answers).to_csv(self.folder / PREDICTIONS, index=False)
        shutil.rmtree(self.folder / CHOSEN, ignore_errors=True)  # of the same search, run before
        classifier.save(self.folder / CHOSEN)

    def write_result(self) -> None:
        """Write the scores of the uncut and of the chosen model, whose ratio and sizes these are.

        The speed-up is that on the user's texts, over the uncut model in fp32.
        """
        (best,) = self.frame[self.frame["chosen"]].to_dict("records")
        (uncut,) = self.frame[self.frame["model"] == show.UNCUT].to_dict("records")
        # The time of one text was taken on one thread, whatever torch has now.
        machine = timing.place("cpu")
        if self.cfg.prune.fastest == "one":
            machine["threads"] = 1
        job = self.jobs[self.chosen.cut]
        result = job.replace(
            job_id=self.key,
            sweep=self.cfg.sweep.id,
            metric=MainScores(
                name=job.metric.name, dense=uncut["validation"], final=best["validation"]
            ),
            metrics={},
            select=Scores(dense=uncut["select"], final=best["select"]),
            choice=Choice(model=best["model"], ms=best["ms"], texts_per_s=best["texts_per_s"]),
            latency=Latency(
                dtype=best["form"],
                speedup=self.chosen.speed / self.candidates[0].speed,
                contended=self.timing.contended,
                **machine,
            ),
            skill=CHOSEN,
            # The prompt may be that of the skill which tuning started from.
            config=asdict(self.cfg) | {"prompt": job.config["prompt"]},
            finished=results.now(),
            # Those of its job would be read as those of the search.
            calibration=Calibration(),
            cache={},
            seconds={},
        )
        results.write(self.folder, result)

    def explain_choice(self) -> None:
        """Log the last table, what was chosen and why, and what the rows cannot show."""
        frame = self.frame
        rows = len(self.select.labels)
        sentences = show.explain(frame, self.candidates, self.chosen, self.bound, rows)
        sentences += show.explain_rows(frame, self.rows)
        sentences += show.judge_baselines(frame, contended=self.timing.contended)
        sentences += show.next_steps(self.folder / CHOSEN, FORMS[self.chosen.form].precision)
        show.tell(frame, self.validation, sentences)
