"""How many SVI steps are enough: from the bounds along a trajectory."""

import numpy as np
import pytest

from tf_savae import data
from tf_savae.evaluation import enough_steps, steps_curve
from tf_savae.runs.build import build_model
from tf_savae.training import make_config


@pytest.mark.parametrize(
  ("num_steps", "numbers"),
  [
    (2, [0, 1, 2]),
    (8, list(range(9))),
    (9, [*range(9), 9]),
    (20, [*range(9), 12, 18, 20]),
    (1, [0, 1]),
  ],
)
def test_numbers_of_steps_end_with_all(num_steps, numbers):
  assert enough_steps.numbers_of_steps(num_steps) == numbers


@pytest.mark.parametrize(
  ("means", "k", "rest"),
  [
    ({0: 9.0, 1: 7.5, 2: 7.04, 3: 7.0}, 2, 0.04),
    ({0: 9.0, 1: 7.5, 2: 7.06, 3: 7.0}, 3, 0.0),
    ({0: 7.0, 1: 7.0, 2: 7.0}, 0, 0.0),
    ({0: 7.01, 1: 8.0, 2: 7.0}, 2, 0.0),  # λ_1 is worse, so the second step is needed
    ({0: 6.0, 1: 7.0}, 0, -1.0),  # a step that does harm
    ({0: 8.0, 1: np.nan}, 1, np.nan),
  ],
)
def test_last_steps_that_gain_nothing_are_left_out(means, k, rest):
  offsets = np.array([-1.0, 0.0, 1.0])
  found = enough_steps._enough({step: mean + offsets for step, mean in means.items()})
  assert (found["k"], found["examples"]) == (k, 3)
  np.testing.assert_allclose(found["rest"], rest, atol=1e-12)


def test_errors_are_of_the_difference_between_paired_bounds():
  found = enough_steps._enough({0: np.array([9.0, 9.0]), 1: np.array([5.01, 3.0]), 2: np.array([5.0, 3.0])})
  np.testing.assert_allclose([found["rest"], found["rest_se"]], [0.005, 0.005])


def test_a_model_is_asked_for_its_own_trajectory(tmp_path):
  config = make_config(dataset="synthetic", preset="tiny", model="savae", k=3, run_dir=str(tmp_path / "run"))
  sizes = {"num_examples": 8, "vocab_size": 6, "length": 3, "hidden": 4, "embedding": 4}
  data_set = data.load("synthetic", data_dir="", seed=0, **sizes)
  model = build_model(config, data_set)
  found = enough_steps.find(model, data_set, "test", 8)
  curve = steps_curve.bounds(model, data_set, "test", [0, 1, 2, 3], 64, 8, bound_draws=8)
  rest = np.mean(np.float64(curve[found["k"]]["bound"]) - np.float64(curve[3]["bound"]))
  assert found["rest"] == pytest.approx(rest, abs=1e-6)
