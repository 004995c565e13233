import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from skip_exp.training.probe import STRENGTH, fit_linear


def test_it_is_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 5)), rng.integers(3, size=60)
    linear = nn.Linear(5, 3)
    fit_linear(linear, torch.tensor(x), torch.tensor(y))
    expected = LogisticRegression(C=STRENGTH, tol=1e-8, max_iter=1000).fit(x, y)
    found = linear(torch.tensor(x, dtype=torch.float32)).softmax(-1).detach()
    np.testing.assert_allclose(found, expected.predict_proba(x), atol=2e-3)


def test_a_class_without_rows_is_unlikely_and_what_is_frozen_stays() -> None:
    linear = nn.Linear(4, 3)
    linear.bias.requires_grad_(False).fill_(0.5)
    with torch.inference_mode():  # as a phase may call it
        x = torch.eye(4)
    fit_linear(linear, x.clone(), torch.tensor([0, 1, 0, 1]))
    assert linear(torch.eye(4)).argmax(-1).tolist() == [0, 1, 0, 1]
    assert linear.bias.tolist() == [0.5] * 3
