"""Workloads have the sizes of the paper, random data fits them, and their arithmetic is what TensorFlow counts."""

from __future__ import annotations

import pytest
import tensorflow as tf

from benchmarks import work, workloads
from tf_savae import networks
from tf_savae.ops import columns


def test_the_paper_models():
  image, text, synthetic = (workloads.config_of(name) for name in ("image", "text", "synthetic"))
  assert (image.batch_size, text.batch_size, synthetic.batch_size) == (10, 4, 50)
  assert image.decoder_kernels == (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3)
  assert (text.vocab_size, text.embedding_dim, text.hidden_dim) == (20_000, 512, 1024)
  assert (workloads.first_beta(image), workloads.first_beta(synthetic)) == (0.1, 1.0)


@pytest.mark.parametrize("workload", ["text", "synthetic"])
def test_random_sequences_have_the_vocabulary_that_the_peers_assume(workload):
  config = workloads.config_of(workload, sizes="tiny")
  data = workloads.random_data(config, 8)
  assert data.vocab_size == workloads.vocabulary_size(config)
  x = data.examples("train", config.batch_size)
  assert x.shape == (config.batch_size, 8 if workload == "text" else workloads.SYNTHETIC_LENGTH)


def test_random_images_have_the_size_that_the_peers_assume():
  config = workloads.config_of("image", 3, "tiny")
  side = workloads.IMAGE_SIDE
  assert workloads.random_data(config).examples("train", 3).shape == (3, side, side, 1)


def counted(function) -> float:
  """Operations of a graph as TensorFlow's profiler counts them: mostly of products and convolutions."""
  graph = tf.function(function, autograph=False).get_concrete_function().graph
  options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
  options["output"] = "none"
  with graph.as_default():
    # Mirrored variables of tests before this one are in TensorFlow's collection, and the profiler cannot read them.
    graph.clear_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "direct"])
def test_arithmetic_of_images_is_what_tensorflow_counts(ours, monkeypatch):
  if not ours:
    monkeypatch.setattr(columns, "by_fourier", lambda side, seen: False)
  config = workloads.config_of("image", 2, "tiny", decoder_channels=16)
  decoder = networks.GatedPixelCNN(
    config.latent_dim, config.decoder_channels, config.decoder_kernels, config.latent_maps
  )
  side, c = workloads.IMAGE_SIDE, 2 * config.decoder_channels
  context = [tf.zeros([2, side, side - 1, c]), tf.zeros([2, side, side, c])]
  context.append(tf.zeros([config.latent_dim, (2 * side - 1) * side * c]))
  found = counted(lambda: decoder.logits(tf.zeros([2, config.latent_dim]), context))
  # Biases and gates count there, and what makes spectra of kernels.
  assert found == pytest.approx(work.decoder_pass(config, 0, ours), rel=0.03)


def test_arithmetic_of_sequences_is_what_tensorflow_counts():
  config = workloads.config_of("synthetic", 3)
  sizes = (workloads.SYNTHETIC_VOCABULARY, config.latent_dim, config.embedding_dim, config.hidden_dim)
  decoder = networks.LSTMDecoder(*sizes)
  context = (tf.zeros([3, workloads.SYNTHETIC_LENGTH, 4 * config.hidden_dim]),)
  found = counted(lambda: decoder.logits(tf.zeros([3, config.latent_dim]), context))
  # What is in a loop TensorFlow does not count.
  step = counted(lambda: tf.matmul(tf.zeros([3, config.hidden_dim]), decoder.recurrent))
  found += workloads.SYNTHETIC_LENGTH * step
  assert found == pytest.approx(work.decoder_pass(config, 0), rel=0.03)


def test_text_takes_the_softmax_and_the_recurrence_of_every_token():
  config = workloads.config_of("text")
  difference = work.decoder_pass(config, 81) - work.decoder_pass(config, 80)
  assert difference == 2 * 4 * 1024 * (4 * 1024 + 20_004)
