"""Classifiers of other libraries, as these train and serve them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.frontier.work import Answer, Fitted, Work, best_of
from skip_exp.models.embedded import find_embedded_folder

TF_IDF_C = (1.0, 10.0, 100.0)
MODEL2VEC_RATES = (1e-3, 3e-3, 1e-2)
SETFIT_BATCH = 16  # pairs


class TfIdf:
    """Words and pairs of words, weighted by tf-idf, and logistic regression."""

    def fit(self, work: Work, folder: Path) -> Fitted:
        fitted, model = best_of(self._trained(work))
        folder.mkdir(parents=True, exist_ok=True)
        joblib.dump(model, folder / "model.joblib")
        return fitted

    def _trained(self, work: Work) -> Iterator[tuple[Fitted, Any]]:
        for c in TF_IDF_C[: work.settings]:
            start = time.perf_counter()
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
            model = make_pipeline(words, LogisticRegression(C=c, max_iter=1000))
            model.fit(*work.split("train"))
            seconds = time.perf_counter() - start
            yield Fitted(work.score(_listed(model), "select"), f"C={c:g}", seconds), model

    def load(self, work: Work, folder: Path) -> tuple[Answer, float]:
        return _listed(joblib.load(folder / "model.joblib")), _size(folder)


class Model2Vec:
    """A static embedding per token, distilled from MiniLM, fine-tuned with a head."""

    def fit(self, work: Work, folder: Path) -> Fitted:
        fitted, pipeline = best_of(self._trained(work))
        pipeline.save_pretrained(str(folder / "model"))
        return fitted

    def _trained(self, work: Work) -> Iterator[tuple[Fitted, Any]]:
        from model2vec.distill import distill
        from model2vec.train import StaticModelForClassification

        (texts, labels), (more, theirs) = work.split("train"), work.split("select")
        for rate in MODEL2VEC_RATES[: work.settings]:
            start = time.perf_counter()
            static = distill(str(find_embedded_folder("minilm")), device="cpu")
            model = StaticModelForClassification.from_static_model(model=static)
            names, held = [*map(str, labels)], [*map(str, theirs)]
            given = {"learning_rate": rate, "device": "cpu", "random_seed": work.seed}
            model.fit(texts, names, X_val=more, y_val=held, **given)
            seconds, pipeline = time.perf_counter() - start, model.to_pipeline()
            select = work.score(_listed(pipeline), "select")
            yield Fitted(select, f"learning_rate={rate:g}", seconds), pipeline

    def load(self, work: Work, folder: Path) -> tuple[Answer, float]:
        from model2vec.inference import StaticModelPipeline

        pipeline = StaticModelPipeline.from_pretrained(str(folder / "model"))
        return _listed(pipeline), _size(folder / "model")


class SetFit:
    """MiniLM, trained on pairs of texts with the same label or not, then a head."""

    def fit(self, work: Work, folder: Path) -> Fitted:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments

        start = time.perf_counter()
        texts, labels = work.split("train")
        model = SetFitModel.from_pretrained(str(find_embedded_folder("minilm")), device="cpu")
        arguments = TrainingArguments(
            output_dir=str(folder / "trainer"),
            batch_size=SETFIT_BATCH,
            # A pair has two texts.
            max_steps=work.epochs * len(texts) // (2 * SETFIT_BATCH),
            sampling_strategy="unique" if len(texts) < 1000 else "oversampling",
            seed=work.seed,
            report_to="none",
            save_strategy="no",
            use_amp=False,
        )
        rows = Dataset.from_dict({"text": texts, "label": labels})
        Trainer(model, arguments, train_dataset=rows).train()
        model.save_pretrained(str(folder / "model"))
        seconds, setting = time.perf_counter() - start, f"max_steps={arguments.max_steps}"
        return Fitted(work.score(_listed(model), "select"), setting, seconds)

    def load(self, work: Work, folder: Path) -> tuple[Answer, float]:
        from setfit import SetFitModel

        model = SetFitModel.from_pretrained(str(folder / "model"), device="cpu")
        return _listed(model), _size(folder / "model")


def _listed(model: Any) -> Answer:
    return lambda texts: [int(label) for label in model.predict(list(texts))]


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
