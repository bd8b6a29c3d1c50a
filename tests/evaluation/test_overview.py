"""The overview shows what a code says alone, what it says beside the true pixels, and labels both."""

import numpy as np
import pytest
from PIL import Image

from tests import tiny_runs
from tf_savae.evaluation import figures, overview
from tf_savae.evaluation.posteriors import Inference


@pytest.fixture(scope="module")
def data():
  return tiny_runs.image_data()


@pytest.fixture(scope="module")
def model():
  return tiny_runs.image_model(k=3)


def test_the_mean_of_drawings_is_that_of_their_draws(model, data):
  z = Inference(model)(data.examples("valid", 2)).centers
  mean = overview.mean_drawings(model, z, num=3)
  drawn = figures.draw(model, np.repeat(z, 3, axis=0))
  np.testing.assert_allclose(mean[1], drawn[3:].mean(axis=0), atol=1e-6)
  assert len(np.unique(drawn[3:], axis=0)) > 1


def test_probabilities_of_the_next_pixels_have_the_likelihood_of_the_image(model, data):
  x = data.examples("valid", 3)
  z = Inference(model)(x).centers
  p = overview.next_pixel_probabilities(model, x, z)
  log_prob = np.log(np.where(x == 1, p, 1 - p)).sum(axis=(1, 2, 3))
  np.testing.assert_allclose(log_prob, model.decoder.log_prob(x, z, model.decoder.precompute(x)), rtol=1e-4)
  assert overview.next_pixel_probabilities(model, 0.5 * x, z) is None


CODE = ["mean of 64 drawn\nat λ₃", "P(ink) at λ₃, with\ntrue pixels before"]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("method", "labels"),
  [
    ("savae", ["data", "drawn at λ₀", "drawn at λ₃", *CODE, "prior samples"]),
    ("svi", ["data", "drawn at λ₃", *CODE, "prior samples"]),
    ("autoreg", ["data", "samples"]),
  ],
)
def test_the_overview_has_a_labelled_row_for_all_that_the_method_has(
  tmp_path, monkeypatch, data, method, labels
):
  seen = []
  draw_rows = figures.image_rows
  monkeypatch.setattr(
    figures, "image_rows", lambda rows, title: seen.append(list(rows)) or draw_rows(rows, title)
  )
  model = tiny_runs.image_model(method, 0 if method == "autoreg" else 3)
  overview.save(model, data, tmp_path / "overview.png", n=4)
  assert [label.partition(", ×")[0] for label in seen[0]] == labels and len(seen) == 1
  picture = np.asarray(Image.open(tmp_path / "overview.png"))
  assert picture.shape[2] == 3 and picture.min() < 50 and picture.max() == 255


def test_only_images_have_an_overview(tmp_path):
  with pytest.raises(ValueError, match="tokens"):
    overview.save(None, tiny_runs.token_data(), tmp_path / "no.png")
