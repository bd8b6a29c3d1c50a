"""The signatures of an exported model: their names and what they compute."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_savae.model import SAVAE
from tf_savae.runs.restore import Restored
from tf_savae.serving import payloads
from tf_savae.serving.serving_batch import ServingBatch, SharedNoise

Outputs = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Options:
  """Settings that are fixed at export.

  Attributes:
    k: numbers of SVI steps; the first is that of `encode_refined`, `elbo` and `reconstruct`.
    seed: of all noise.
    num_samples: noise draws averaged in each step and bound.
  """

  k: tuple[int, ...]
  seed: int = 0
  num_samples: int = 1


@dataclasses.dataclass(frozen=True)
class Signature:
  """One signature.

  Attributes:
    function: the input tensor → outputs by name, all batched on dimension 0.
    spec: of the input; its name is the input's name.
    examples: maps n to an array of n inputs.
    inputs, outputs: descriptions for the model card: one text, and one text per name.
    follows_greedy_path: whether a rounding error in one row can turn the rest of that row's answer.
    tables: what a SavedModel must hold besides variables, such as a vocabulary.
  """

  function: Callable[[tf.Tensor], Outputs]
  spec: tf.TensorSpec
  examples: Callable[[int], np.ndarray]
  inputs: str
  outputs: dict[str, str]
  follows_greedy_path: bool = False
  tables: tuple[tf.lookup.StaticHashTable, ...] = ()

  @functools.cached_property
  def traced(self) -> tf.types.experimental.ConcreteFunction:
    """`function` as a graph for any batch size, traced once."""
    return tf.function(self.function, autograph=False).get_concrete_function(self.spec)


def signatures(trained: Restored, options: Options) -> dict[str, Signature]:
  """All signatures of the trained model of a run; see `of_model`."""
  return of_model(trained.model, payloads.of(trained, options.seed), options)


def of_model(model: SAVAE, form: payloads.Payloads, options: Options) -> dict[str, Signature]:
  """All signatures of a model, by name, `serving_default` included; equal ones are one object.

  A method without encoder has no `encode`: its default is `encode_refined`, from one random λ_0 for all rows. A model
  without latent has `elbo`, which is log p(x), as its default, and `sample` of a seed.

  Args:
    model: a built model.
    form: how its observations are sent and received.
    options: what to bake in.
  """
  endpoints = _Endpoints(model, options, form)
  found = {}
  if model.method.has_encoder:
    found |= _of_inputs("encode", endpoints.encode(), form)
  if model.method.has_latent:
    refined = {f"encode_refined_{k}": endpoints.encode_refined(k) for k in options.k}
    found |= _of_inputs("encode_refined", next(iter(refined.values())), form)
    if len(refined) > 1:
      for name, endpoint in refined.items():
        found |= _of_inputs(name, endpoint, form)
  found |= _of_inputs("elbo", endpoints.elbo(), form)
  if model.method.has_latent and form.from_latent:
    found |= _of_inputs("reconstruct", endpoints.reconstruct(), form)
    found[form.from_latent.signature] = endpoints.from_latent()
  elif not model.method.has_latent and form.drawn:
    found["sample"] = endpoints.sample()
  default = next(name for name in ("encode", "encode_refined", "elbo") if name in found)
  return {"serving_default": found[default], **found}


def keras_default(model: SAVAE, form: payloads.Payloads) -> Signature:
  """What `predict` gives for each row alone, with the noise of training's seed: the signature of a Keras export."""
  x, texts = form.x, _texts(model, f"q_λK, K = {model.eval_k}")
  if model.method.has_encoder:
    texts |= {f"{name}_initial": text for name, text in _texts(model, "q_λ0").items()}

  def function(raw):
    return _of_any_size(lambda x: model.posterior_outputs(x, row_by_row=True), x.to_x(raw))

  return Signature(function, x.spec, x.examples, x.text, texts)


def _texts(model: SAVAE, posterior: str) -> dict[str, str]:
  """What the columns of a posterior are, by name."""
  texts = model.family.texts(model.latent_dim)
  return {name: text.format(q=posterior) for name, text in texts.items()}


def _of_inputs(name: str, of_x: Signature, form: payloads.Payloads) -> dict[str, Signature]:
  """A signature of x, and the same of every other input that can be turned into x."""
  found = {}
  for suffix, given in form.inputs.items():
    found[name + suffix] = of_x
    if given is not form.x:
      found[name + suffix] = dataclasses.replace(
        of_x,
        function=lambda raw, given=given: of_x.traced(given.to_x(raw)),
        spec=given.spec,
        examples=given.examples,
        inputs=given.text,
        tables=form.tables,
      )
  return found


def _of_any_size(function: Callable[[tf.Tensor], Outputs], batch: tf.Tensor) -> Outputs:
  """`function(batch)`, of an empty batch, too: oneDNN's convolutions give that a wrong shape, so it gets a row."""
  size = tf.shape(batch)[0]
  filled = tf.pad(batch, [[0, tf.cast(size == 0, tf.int32)], *([0, 0] for _ in batch.shape[1:])])
  return {name: value[:size] for name, value in function(filled).items()}


class _Endpoints:
  """The signatures that take x, z or a seed."""

  def __init__(self, model: SAVAE, options: Options, form: payloads.Payloads):
    self._model, self._options, self._form = model, options, form
    draws = dataclasses.replace(model.svi, num_samples=options.num_samples).noise_draws
    self._noise = SharedNoise.draw(options.seed, max(options.k), model.latent_dim, draws)
    # K of the posterior that the method itself uses: 0 where it does not refine.
    self._k = options.k[0] if model.method.refines else 0
    self._latent = f"`[{model.latent_dim}]`"

  def _batch(self, x: tf.Tensor, k: int) -> ServingBatch:
    return ServingBatch(self._model, x, k, self._noise)

  def _of_x(self, function: Callable[[tf.Tensor], Outputs], outputs: dict[str, str], **options) -> Signature:
    x = self._form.x
    return Signature(
      lambda raw: _of_any_size(function, x.to_x(raw)), x.spec, x.examples, x.text, outputs, **options
    )

  def encode(self) -> Signature:
    """λ_0."""
    family = self._model.family
    return self._of_x(lambda x: family.columns(self._model.encode(x)), _texts(self._model, "q_λ0"))

  def encode_refined(self, k: int) -> Signature:
    """λ_K and the bounds before and after."""

    def function(x):
      batch = self._batch(x, k)
      initial, refined = batch.start(), batch.posterior()
      return {
        **self._model.family.columns(refined),
        "elbo_initial": -batch.bound(initial).neg_elbo,
        "elbo_refined": -batch.bound(refined).neg_elbo,
      }

    texts = {
      **_texts(self._model, f"q_λK, K = {k}"),
      "elbo_initial": "ELBO at λ_0, nats",
      "elbo_refined": "ELBO at λ_K, nats, with the same noise",
    }
    return self._of_x(function, texts)

  def elbo(self) -> Signature:
    """The bound of the method's own posterior."""

    def function(x):
      batch = self._batch(x, self._k)
      bound = batch.bound(batch.posterior())
      measured = {name: function(x) for name, (function, _) in self._form.measures.items()}
      return {"elbo": -bound.neg_elbo, "nll": bound.nll, "kl": bound.kl, **measured}

    texts = {"elbo": "log p(x), nats", "nll": "−log p(x), nats", "kl": "0"}
    if self._model.method.has_latent:
      elbo = f"−nll − kl at λ_{self._k}, nats"
      texts = {"elbo": elbo, "nll": "−log p(x | z), nats", "kl": "KL(q_λ ‖ p), nats"}
    return self._of_x(function, texts | {name: text for name, (_, text) in self._form.measures.items()})

  def reconstruct(self) -> Signature:
    """x by way of the mean of the method's own posterior."""

    decoding = self._form.from_latent

    def function(x):
      z = self._model.family.center(self._batch(x, self._k).posterior())
      return {decoding.reconstruction: decoding.of_z(z)}

    texts = {decoding.reconstruction: f"what `{decoding.signature}` gives at the mean of q at λ_{self._k}"}
    return self._of_x(function, texts, follows_greedy_path=True, tables=self._form.tables)

  def from_latent(self) -> Signature:
    """z to what it stands for."""
    decoding, size = self._form.from_latent, self._model.latent_dim
    return Signature(
      lambda z: _of_any_size(lambda z: {decoding.output: decoding.of_z(z)}, payloads.checked("z", z, [size])),
      tf.TensorSpec([None, size], tf.float32, "z"),
      lambda n: np.random.default_rng(0).normal(size=[n, size]).astype(np.float32),
      f"latent code {self._latent}, float32; p(z) = N(0, I)",
      {decoding.output: decoding.text},
      follows_greedy_path=True,
      tables=self._form.tables,
    )

  def sample(self) -> Signature:
    """One x per seed, each drawn alone, since the draws of a batch would depend on the row's position."""
    drawn = self._form.drawn

    def one(seed):
      return drawn.of_x(self._model.decoder.sample(None, tf.stack([seed, self._options.seed]), num=1))[0]

    return Signature(
      lambda seeds: {
        drawn.name: tf.map_fn(one, payloads.checked("seed", seeds, []), fn_output_signature=drawn.spec)
      },
      tf.TensorSpec([None], tf.int32, "seed"),
      lambda n: np.arange(n, dtype=np.int32),
      "a whole number, int32: the same one gives the same sample",
      {drawn.name: drawn.text},
      follows_greedy_path=True,
      tables=self._form.tables,
    )
