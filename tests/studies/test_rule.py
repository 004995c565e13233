"""The simulation of rules: what they choose where all models answer alike."""

import numpy as np

from skip_exp.within.choose import Answers, Model, list_candidates
from studies import rule


def test_a_rule_that_counts_an_error_keeps_to_the_uncut_model_on_few_rows() -> None:
    right = Answers(np.zeros(16, int), np.linspace(0.5, 0.9, 16))
    models = [Model(*name, right, speed) for name, (speed, *_) in rule.MODELS.items()]
    chosen = {}
    for name, each in rule.RULES.items():
        found = rule.choose_by(
            each, models, 0.01, lambda least: list_candidates(models, rule.accuracy, least)
        )
        chosen[name] = [(model.ratio, model.form) for model in found.models]
    assert chosen["none"] == [(0.95, "int8")]
    assert chosen["1"] == chosen["1.64"] == [(0.0, "int8")]


def test_every_rule_chooses_on_every_slice() -> None:
    found = rule.simulate(16, 2, 0.01)
    assert len(found) == 2 * len(rule.RULES)
    assert (found["speed"] >= 1).all() and found["drop"].between(-10, 30).all()
