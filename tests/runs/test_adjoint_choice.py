"""`--adjoint=auto` keeps what the steps computed where that is little, and recomputes it where it is not."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae import data as data_lib
from tf_savae.methods import METHODS
from tf_savae.objective import NegELBO
from tf_savae.runs import adjoint_choice
from tf_savae.runs.build import make_networks
from tf_savae.svi.adjoint import ExactAdjoint, StoredAdjoint
from tf_savae.training import make_config


@pytest.fixture(scope="module")
def images():
  grey = np.full([4, 8, 8], 0.3, np.float32)
  return data_lib.images_from_arrays(grey, grey, grey, source="noise")


def choice(data, **changes):
  settings = {"decoder": "pixelcnn", "adjoint": "auto", "encoder_channels": (2,), **changes}
  config = make_config(dataset="omniglot", preset="tiny", batch_size=20, **settings)
  decoder = make_networks(config, data, METHODS.get(config.model))[1]
  return adjoint_choice.choose(config, decoder, data)


@pytest.mark.parametrize(
  ("changes", "expected", "why"),
  [
    ({"k": 1}, StoredAdjoint(), "take"),
    ({"k": 2, "svi_noise": "signs", "svi_samples": 2}, StoredAdjoint(), "take"),
    ({"k": 9000}, ExactAdjoint(), "above 1 GB"),
    ({"k": 1, "svi_samples": 9000}, ExactAdjoint(), "above 1 GB"),
    ({"k": 1, "decoder": "late_pixelcnn"}, ExactAdjoint(), "of its own"),
    ({"k": 1, "precision": "bfloat16_adjoint"}, ExactAdjoint("bfloat16"), "--precision=bfloat16_adjoint"),
    ({"model": "vae"}, ExactAdjoint(), "no derivative"),
    ({"k": 1, "adjoint": "exact"}, ExactAdjoint(), "as asked for"),
    ({"k": 9000, "adjoint": "stored"}, StoredAdjoint(), "as asked for"),
  ],
)
def test_it_is_stored_where_the_steps_of_a_batch_keep_little(changes, expected, why, images):
  chosen = choice(images, **changes)
  assert chosen.adjoint == expected and why in chosen.why
  name = "stored" if expected == StoredAdjoint() else "exact"
  assert str(chosen).startswith(f"adjoint: {name} (")


def test_it_is_exact_where_the_length_of_a_text_is_unknown():
  config = make_config(dataset="yahoo", preset="tiny", latent_to="state", k=1, adjoint="auto", vocab_size=9)

  class Decoder:
    latent_dim, variable_dtype = 2, "float32"

    def log_prob(self, x, z, context):
      return tf.reduce_sum(tf.cast(x, tf.float32), axis=-1) * tf.reduce_sum(z * tf.sin(z), axis=-1)

  class Documents:
    def eval_batches(self, split, size):
      spec = tf.TensorSpec([None, None], tf.int32)
      return tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec)

  chosen = adjoint_choice.choose(config, Decoder(), Documents())
  assert chosen.adjoint == ExactAdjoint() and "unknown" in chosen.why


def test_the_bytes_are_those_of_what_a_draw_computes():
  """z `[5, 3]`: the sample, its parts, the loss and all their derivatives, each once for every example."""

  class Decoder:
    latent_dim, variable_dtype = 3, "float64"

    def log_prob(self, x, z, context):
      del context
      return tf.reduce_sum(x * z, axis=-1)

  spec = tf.TensorSpec([None, 3], tf.float64)
  of_5, of_10 = (
    adjoint_choice.bytes_of_draw(NegELBO(Decoder()), Decoder(), spec, batch_size) for batch_size in (5, 10)
  )
  assert of_5 % 8 == 0 and 10 * 5 * 3 * 8 < of_5 < 80 * 5 * 3 * 8
  assert of_10 == 2 * of_5
