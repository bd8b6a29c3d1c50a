"""Points and gradients pass through files unchanged; errors are relative to what they are errors of."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import points

EXACT = {
  "loss": np.float64(7.0),
  "lambda_0/mean": np.array([[3.0, 4.0]]),
  "encoder/kernel": np.array([1.0, 2.0]),
  "decoder/kernel": np.array([6.0, 8.0]),
}


def moved(name: str, by: float) -> dict[str, np.ndarray]:
  return {n: a + by * (n == name) for n, a in EXACT.items()}


@pytest.mark.parametrize("clip_norm", [None, 2.5])
def test_a_point_is_read_as_it_was_written(tmp_path, clip_norm):
  rng = np.random.default_rng(0)
  weights = {"encoder/stage_0/conv1/kernel": rng.normal(size=[2, 3]), "decoder/bias": rng.normal(size=[4])}
  point = points.Point(
    rng.integers(5, size=[2, 3]), rng.normal(size=[4, 2, 1]), np.full([3], 0.1), 0.5, clip_norm, 0.2, weights
  )
  path = str(tmp_path / "point")
  points.write(path, point)
  found = points.read(path)
  for name in ("x", "noise", "step_sizes"):
    np.testing.assert_array_equal(getattr(found, name), getattr(point, name))
  assert (found.momentum, found.clip_norm, found.beta) == (0.5, clip_norm, 0.2)
  assert found.weights("encoder").keys() == {"stage_0/conv1/kernel"}
  np.testing.assert_array_equal(found.weights("decoder")["bias"], weights["decoder/bias"])


def test_gradients_are_read_as_they_were_written(tmp_path):
  path = str(tmp_path / "gradients")
  mean, log_var = np.array([[1.0]]), np.array([[2.0]], np.float32)
  points.write_gradients(path, 3.5, [mean, log_var], {"a": np.array([4.0])}, {"a": np.array([5.0])})
  expected = {"loss": 3.5, "lambda_0/mean": 1, "lambda_0/log_var": 2, "encoder/a": 4, "decoder/a": 5}
  found = points.read_gradients(path)
  assert {name: float(np.squeeze(g)) for name, g in found.items()} == expected
  assert {g.dtype for g in found.values()} == {np.dtype("float64")}


def test_equal_gradients_have_no_error():
  assert set(points.errors(EXACT, EXACT).values()) == {0.0}


def test_an_error_counts_in_its_own_group_and_in_all():
  errors = points.errors(moved("lambda_0/mean", 1.0), EXACT)
  assert errors["lambda_0"] == pytest.approx(np.sqrt(2) / 5)
  assert errors["encoder"] == errors["decoder"] == 0
  assert errors["all"] == pytest.approx(np.sqrt(2 / 130))


def test_the_second_order_part_is_measured_by_its_own_norm():
  first_order = moved("decoder/kernel", -0.1)
  errors = points.errors(moved("decoder/kernel", 0.1), EXACT, first_order)
  assert errors["decoder_second_order"] == pytest.approx(1.0)
  assert points.errors(first_order, EXACT, first_order)["decoder_second_order"] == pytest.approx(1.0)


def test_gradients_of_other_weights_cannot_be_compared():
  fewer = {name: a for name, a in EXACT.items() if name != "encoder/kernel"}
  with pytest.raises(ValueError, match="encoder/kernel"):
    points.distance(fewer, EXACT)
