"""Posteriors of given examples before and after refinement, and the bound at every step between."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_savae import observations, tokens
from tf_savae.data.text_store import padded_length
from tf_savae.evaluation.optimum import mean_kl
from tf_savae.model import SAVAE
from tf_savae.posterior import Params


class Posteriors(NamedTuple):
  """The results of inference for n examples, as arrays.

  Attributes:
    initial: λ_0, each `[n, latent]`; None for a method without an encoder.
    final: λ_K, each `[n, latent]`.
    bounds: −ELBO in nats at λ_0 … λ_K, `[K + 1, n]`. There is one noise draw per example, the same at every k, so that
      differences between steps are free of most of its noise.
    kl: KL(q_λK ‖ p) in nats, `[n]`; from a pair of draws where it has no closed form.
    centers: what to decode, the z of ε = 0 at λ_K, `[n, latent]`: of a Gaussian its mean.
    kl_initial, centers_initial: the same at λ_0; None for a method without an encoder.
  """

  initial: Params | None
  final: Params
  bounds: np.ndarray
  kl: np.ndarray
  centers: np.ndarray
  kl_initial: np.ndarray | None = None
  centers_initial: np.ndarray | None = None

  def first(self, n: int) -> Posteriors:
    """The posteriors of the first n examples."""
    bounds = self.bounds[:, :n]
    cut = tf.nest.map_structure(lambda part: None if part is None else part[:n], self)
    return cut._replace(bounds=bounds)


class Inference:
  """Infers `Posteriors` with a model's current weights; traced once, for all batches and epochs.

  Args:
    model: a model with a latent; K is its `eval_k`.
    spec: shape and dtype of every batch, such as a data set's `element_spec`. Without it, the graph takes any number of
      examples with the shape of the first x; when documents of another length come, a second trace serves all lengths.

  Raises:
    ValueError: the model has no latent.
  """

  def __init__(self, model: SAVAE, spec: tf.TensorSpec | None = None):
    if not model.latent_dim:
      raise ValueError(f"The method {model.method_name!r} has no posterior.")
    self._model, self._spec = model, spec
    self._traced = None

  def __call__(self, x: np.ndarray, batch_size: int = 100) -> Posteriors:
    """Posteriors of examples x `[n, ...]`.

    The noise is that of `evaluate` if batch size and order of the examples are the same. Columns that are padding in a
    whole batch are left out, so documents that are sorted by length take less time.
    """
    spec = tf.nest.map_structure(lambda each: tf.TensorSpec([None, *each.shape[1:]], each.dtype), x)
    if self._spec is None or not _covers(self._spec, spec):
      self._spec = spec if self._spec is None else self._spec.most_specific_common_supertype([spec])
      self._traced = None
    if self._traced is None:
      signature = [self._spec, tf.TensorSpec([], tf.int64)]
      self._traced = tf.function(self._infer, input_signature=signature, autograph=False)
    has_any_length = isinstance(x, np.ndarray) and x.dtype.kind == "i" and self._spec.shape[1:] == [None]
    starts = range(0, observations.size(x), batch_size)
    batches = ((i, observations.take(x, slice(i, i + batch_size))) for i in starts)
    parts = [
      self._traced(
        tf.nest.map_structure(tf.constant, _trimmed(part) if has_any_length else part),
        tf.constant(i, tf.int64),
      )
      for i, part in batches
    ]
    found = tf.nest.map_structure(lambda *each: np.concatenate([part.numpy() for part in each]), *parts)
    found = found._replace(bounds=found.bounds.T)
    if self._model.method.has_encoder:
      return found
    return found._replace(initial=None, kl_initial=None, centers_initial=None)

  @property
  def graph(self) -> tf.Graph:
    """The graph of inference for a batch; there must have been a call."""
    return self._traced.get_concrete_function().graph

  def _infer(self, x, seen):
    """The scopes name the parts on TensorBoard's page Graphs."""
    with tf.name_scope("features_without_z"):
      batch = self._model.inference(x, step=seen)
    with tf.name_scope("lambda_0"):
      initial = final = batch.start()
    if not batch.settings.num_steps:
      with tf.name_scope("bound"):
        bound = batch.bound(final)
      return self._of_batch(batch, initial, final, bound.neg_elbo[tf.newaxis])
    with tf.name_scope("refinement"):
      final, trajectory, _ = batch.refine(initial, adjoint=None)
    # One step after another, like the refinement itself, so that memory does not grow with K.
    with tf.name_scope("bounds_of_all_steps"):
      bounds = tf.map_fn(
        lambda params: batch.bound(params).neg_elbo,
        trajectory,
        fn_output_signature=final.mean.dtype,
        parallel_iterations=1,
      )
    return self._of_batch(batch, initial, final, bounds)

  def _of_batch(self, batch, initial, final, bounds):
    """The `Posteriors` of a batch as tensors, with the bounds' batch in front."""
    family = batch.family
    with tf.name_scope("kl"):
      kls = [mean_kl(batch, params, 2) for params in (final, initial)]
    centers = [family.center(params) for params in (final, initial)]
    return Posteriors(initial, final, tf.transpose(bounds), kls[0], centers[0], kls[1], centers[1])


def _covers(spec, other):
  """Whether a spec, or each of a nest of specs, admits what `other` describes."""
  tf.nest.assert_same_structure(spec, other)
  pairs = zip(tf.nest.flatten(other), tf.nest.flatten(spec), strict=True)
  return all(each.is_subtype_of(of) for each, of in pairs)


def _trimmed(x: np.ndarray) -> np.ndarray:
  """Documents without the columns that are padding for all of them."""
  used = np.flatnonzero((x != tokens.PAD).any(axis=0))
  return x[:, : padded_length(int(used[-1]) + 1 if used.size else 0)]
