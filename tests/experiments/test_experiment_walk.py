"""The picture of the idea shows the walk that the model's own refinement takes, and is the same file each time."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from experiments import figures_walk
from tests import tiny, tiny_runs
from tf_savae import SAVAE, SVISettings
from tf_savae.errors import UserError


@pytest.mark.slow
def test_a_walk_goes_where_refine_goes_and_never_above_the_best_gaussian(tmp_path):
  encoder, decoder, x = tiny.lstm_networks("float32", dropout=0.0)
  model, x = SAVAE(encoder, decoder, svi=SVISettings(3, 0.1)), tf.convert_to_tensor(x[:1])
  found = figures_walk.walk(model, x)
  np.testing.assert_allclose(found.means[-1], model.refine(x).mean[0], atol=1e-6)
  assert found.neg_elbo.shape == (4,) and found.neg_elbo.min() >= found.optimum - 1e-5
  files = [tmp_path / name for name in ("a.svg", "b.svg")]
  for file in files:
    figures_walk.save_svg(figures_walk.draw(found, "a title"), file)
  assert files[0].read_bytes() == files[1].read_bytes()
  assert b"<svg" in files[0].read_bytes()


def test_what_cannot_be_drawn_is_said_in_one_line():
  with pytest.raises(UserError, match=r"^--example must be below 12, .* test examples; received 12$"):
    figures_walk.example_of(tiny_runs.token_data(), 12)
  model = tiny_runs.image_model("vae")
  with pytest.raises(UserError, match="refines two latents; received latent_dim=3 and model=vae"):
    figures_walk.walk(model, tf.zeros([1, 8, 8, 1]))
