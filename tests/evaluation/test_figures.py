"""Figures show the pixels, labels and numbers they are given; posteriors are the model's own."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny_runs
from tf_savae.evaluation import figures
from tf_savae.evaluation.bounds import evaluate
from tf_savae.evaluation.posteriors import Inference


@pytest.fixture(scope="module")
def data():
  return tiny_runs.image_data()


@pytest.fixture(scope="module")
def model():
  return tiny_runs.image_model(k=3)


def test_a_mosaic_holds_every_image_in_row_order():
  images = np.arange(5 * 2 * 3).reshape(5, 2, 3, 1) / 100
  canvas = figures.mosaic(images, columns=2)
  assert canvas.shape == (3 * 3 + 1, 2 * 4 + 1)
  for i, image in enumerate(images):
    top, left = 1 + i // 2 * 3, 1 + i % 2 * 4
    np.testing.assert_array_equal(canvas[top : top + 2, left : left + 3], image[..., 0].astype(np.float32))


def test_rows_are_labelled_and_hold_their_images():
  rows = {"data": np.ones((3, 4, 4, 1)), "λ₀": np.zeros((3, 4, 4, 1))}
  figure = figures.image_rows(rows, "a title")
  assert [ax.get_ylabel() for ax in figure.axes] == ["data", "λ₀"]
  assert figure.get_suptitle() == "a title"
  for ax, images in zip(figure.axes, rows.values(), strict=True):
    np.testing.assert_array_equal(ax.images[0].get_array(), figures.mosaic(images, 3))


def test_ink_is_dark_on_light_paper():
  for value, pixel in ((0.0, 255), (1.0, 0)):
    image = figures.to_array(figures.image_grid(np.full((1, 8, 8, 1), value)))
    middle = image[image.shape[0] // 2, image.shape[1] // 2]
    np.testing.assert_array_equal(middle, pixel)


def test_colours_are_shown_as_they_are():
  images = np.random.default_rng(0).random((3, 4, 5, 3))
  canvas = figures.mosaic(images, columns=2)
  assert canvas.shape == (11, 13, 3)
  np.testing.assert_array_equal(canvas[6:10, 1:6], images[2].astype(np.float32))
  colour = np.array([0.9, 0.2, 0.4])
  picture = figures.to_array(figures.image_grid(np.broadcast_to(colour, (1, 8, 8, 3))))
  middle = picture[picture.shape[0] // 2, picture.shape[1] // 2]
  np.testing.assert_allclose(middle, 255 * colour, atol=1.01)


def test_the_svi_curve_is_drawn_relative_to_its_start_and_names_both_ends():
  old, new = np.array([140.0, 139.0, 138.5]), np.array([120.0, 118.0, 117.25])
  (ax,) = figures.svi_curve([("epoch 1", old), ("epoch 2", new)]).axes
  first, second = ax.lines[:2]
  np.testing.assert_array_equal(first.get_ydata(), [0, -1, -1.5])
  np.testing.assert_array_equal(second.get_ydata(), [0, -2, -2.75])
  np.testing.assert_array_equal(second.get_xdata(), [0, 1, 2])
  assert second.get_alpha() > first.get_alpha()
  labels = [text.get_text() for text in ax.get_legend().get_texts()]
  assert labels == ["epoch 1: 140.00 → 138.50", "epoch 2: 120.00 → 117.25"]


def test_the_sweeps_curve_shows_each_bound_with_its_paired_error_and_marks_the_k_of_training():
  rows = [
    {"k": k, "bound": bound, "difference_se": se}
    for k, bound, se in ((20, 20.8, 0.1), (0, 21.3, None), (10, 20.9, 0.05))
  ]
  figure = figures.steps_curve(rows, trained=10)
  (ax,) = figure.axes
  (points, _, (bars,)) = ax.containers[0].lines
  np.testing.assert_array_equal(points.get_xydata(), [[0, 21.3], [10, 20.9], [20, 20.8]])
  np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars.get_segments()], [0, 0.2, 0.4])
  np.testing.assert_array_equal(ax.lines[0].get_xdata(), [10, 10])
  assert list(ax.get_xticks()) == [0, 10, 20]
  labels = {text.get_text() for text in figure.legends[0].get_texts()}
  assert labels == {"K = 10 in training", "−ELBO, ± 2 s.e. of the difference to K = 20"}


@pytest.mark.parametrize(
  ("steps", "shown"),
  [([0, 5, 10, 20, 40], [0, 5, 10, 20, 40]), ([0, 1, 2, 5, 80], [0, 5, 80]), ([3], [3]), ([9, 2], [2, 9])],
)
def test_numbers_of_steps_too_close_for_an_axis_leave_the_ends_and_what_has_room(steps, shown):
  assert figures.step_ticks(steps) == shown


def test_posteriors_are_those_of_the_model_at_both_ends(model, data):
  x = data.examples("valid", 10)
  posteriors = Inference(model)(x)
  np.testing.assert_allclose(posteriors.initial.mean, model.encode(x).mean, rtol=1e-5, atol=1e-6)
  for part, expected in zip(posteriors.final, model.refine(x), strict=True):
    np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(posteriors.kl, model.refine(x).kl_to_prior(), rtol=1e-4)
  assert posteriors.bounds.shape == (4, 10)


@pytest.mark.parametrize("k", [0, 3])
def test_bounds_along_the_refinement_begin_and_end_at_the_reported_ones(data, k):
  model = tiny_runs.image_model("vae_svi", k=3, eval_k=k)
  bounds = Inference(model)(data.examples("valid", 10), batch_size=4).bounds.mean(axis=1)
  reported = evaluate(model, data, "valid", batch_size=4, iw_samples=1, bound_samples=1)
  assert bounds.shape == (k + 1,)
  assert bounds[0] == pytest.approx(reported["nll_bound_initial"], rel=1e-5)
  assert bounds[-1] == pytest.approx(reported["nll_bound"], rel=1e-5)


def test_an_examples_posterior_does_not_depend_on_how_many_are_asked_for(model, data):
  infer, x = Inference(model), data.examples("valid", 10)
  few, many = infer(x[:4], batch_size=4), infer(x, batch_size=4)
  for one, other in zip(few.final, many.first(4).final, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(few.bounds, many.first(4).bounds, rtol=1e-5)


def test_without_latent_there_is_no_posterior_to_infer():
  with pytest.raises(ValueError, match=r"autoreg.*no posterior"):
    Inference(tiny_runs.image_model("autoreg", 0))


def test_reconstructions_at_equal_posteriors_are_equal(model, data):
  x = data.examples("valid", 4)
  posteriors = Inference(model)(x)
  rows = figures.reconstruction_rows(model, x, posteriors)
  assert list(rows) == ["data", "λ₀", "λ₃"]
  np.testing.assert_array_equal(rows["data"], x)
  same = figures.reconstruction_rows(model, x, posteriors._replace(initial=posteriors.final))
  np.testing.assert_array_equal(same["λ₀"], same["λ₃"])
  assert set(np.unique(rows["λ₃"])) <= {0.0, 1.0}


def test_a_decoder_that_cannot_sample_shows_its_expected_image(model, data):
  class Decoder:
    def decode(self, z):
      return tf.fill([len(z), 2, 2, 1], 0.25)

  class Model:
    decoder = Decoder()

  np.testing.assert_array_equal(figures.draw(Model(), np.zeros((3, 2))), np.full((3, 2, 2, 1), 0.25))
