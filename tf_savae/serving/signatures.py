"""The signatures of an exported model: their names and what they compute."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae import masking
from tf_savae.model import SAVAE
from tf_savae.runs.restore import Restored
from tf_savae.serving import payloads
from tf_savae.serving.serving_batch import ServingBatch, SharedNoise

Outputs = dict[str, tf.Tensor]

_SEED = payloads.Input(
  tf.TensorSpec([None], tf.int32, "seed"),
  lambda seed: payloads.checked("seed", seed, []),
  lambda n: np.arange(n, dtype=np.int32),
  "a whole number, int32: the same one gives the same answer",
)


@dataclasses.dataclass(frozen=True)
class Options:
  """Settings that are fixed at export.

  Attributes:
    k: numbers of SVI steps; the first is that of `encode_refined`, `elbo` and `reconstruct`.
    seed: of all noise.
    num_samples: noise draws averaged in each step and bound.
    masks: whether there are signatures for observations of which a part was seen.
  """

  k: tuple[int, ...]
  seed: int = 0
  num_samples: int = 1
  masks: bool = False


@dataclasses.dataclass(frozen=True)
class Signature:
  """One signature.

  Attributes:
    function: the input tensor → outputs by name, all batched on dimension 0.
    spec, examples: of the input, one tensor or several by name; see `payloads.Input`.
    inputs, outputs: descriptions for the model card: one text, or one for each name, and one for each output.
    follows_greedy_path: whether a rounding error in one row can turn the rest of that row's answer.
    tables: what a SavedModel must hold besides variables, such as a vocabulary.
  """

  function: Callable[[Any], Outputs]
  spec: tf.TensorSpec | Mapping[str, tf.TensorSpec]
  examples: Callable[[int], Any]
  inputs: str | Mapping[str, str]
  outputs: dict[str, str]
  follows_greedy_path: bool = False
  tables: tuple[tf.lookup.StaticHashTable, ...] = ()

  @functools.cached_property
  def traced(self) -> tf.types.experimental.ConcreteFunction:
    """`function` as a graph for any batch size, traced once; it takes several tensors by name."""
    if isinstance(self.spec, tf.TensorSpec):
      return tf.function(self.function, autograph=False).get_concrete_function(self.spec)
    function = tf.function(lambda **raw: self.function(raw), autograph=False)
    return function.get_concrete_function(**self.spec)

  def of_x(self, x: Any) -> Outputs:
    """`traced` of x, a tensor, or a nest whose parts are the inputs in order."""
    if isinstance(self.spec, tf.TensorSpec):
      return self.traced(x)
    return self.traced(**(x if isinstance(x, dict) else dict(zip(self.spec, x, strict=True))))

  @property
  def specs(self) -> dict[str, tf.TensorSpec]:
    """Specs of the inputs by name."""
    return payloads.named(self.spec, self.spec)

  @property
  def input_texts(self) -> dict[str, str]:
    """Descriptions of the inputs by name."""
    return payloads.named(self.spec, self.inputs)

  def feeds(self, n: int) -> dict[str, np.ndarray]:
    """`n` example rows of every input by name."""
    return payloads.named(self.spec, self.examples(n))

  def __call__(self, feeds: Mapping[str, Any]) -> Outputs:
    """The outputs of inputs by name, computed by the model itself."""
    tensors = {name: tf.constant(value) for name, value in feeds.items()}
    return self.traced(*tensors.values()) if isinstance(self.spec, tf.TensorSpec) else self.traced(**tensors)


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
    if options.masks:
      found |= _masked("encode_refined_masked", endpoints.refined_masked, form)
  if options.masks and form.drawn is not None:
    found |= _masked("complete", endpoints.complete, form)
  found |= _of_inputs("elbo", endpoints.elbo(), form)
  if model.method.has_latent and form.from_latent:
    found |= _of_inputs("reconstruct", endpoints.reconstruct(), form)
    found[form.from_latent.signature] = endpoints.from_latent()
  elif not model.method.has_latent and form.drawn:
    found["sample"] = endpoints.sample()
  default = next(name for name in ("encode", "encode_refined", "elbo") if name in found)
  return {"serving_default": found[default], **found}


def _masked(
  name: str, make: Callable[[payloads.Input], Signature], form: payloads.Payloads
) -> dict[str, Signature]:
  """A signature of x and a mask, for every input that can be turned into x."""
  return {name + suffix: make(given) for suffix, given in form.inputs.items()}


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
        function=lambda raw, given=given: of_x.of_x(given.to_x(raw)),
        spec=given.spec,
        examples=given.examples,
        inputs=given.text,
        tables=form.tables,
      )
  return found


def _of_any_size(function: Callable[[Any], Outputs], batch: Any) -> Outputs:
  """`function(batch)`, of an empty batch, too: oneDNN's convolutions give that a wrong shape, so it gets a row."""
  size = tf.shape(tf.nest.flatten(batch)[0])[0]

  def filled(part):
    return tf.pad(part, [[0, tf.cast(size == 0, tf.int32)], *([0, 0] for _ in part.shape[1:])])

  return {name: value[:size] for name, value in function(tf.nest.map_structure(filled, batch)).items()}


class _Endpoints:
  """The signatures that take x, z or a seed."""

  def __init__(self, model: SAVAE, options: Options, form: payloads.Payloads):
    self._model, self._options, self._form = model, options, form
    draws = dataclasses.replace(model.svi, num_samples=options.num_samples).noise_draws
    self._noise = SharedNoise.draw(options.seed, max(options.k), model.latent_dim, draws)
    # K of the posterior that the method itself uses: 0 where it does not refine.
    self._k = options.k[0] if model.method.refines else 0
    self._latent = f"`[{model.latent_dim}]`"

  def _batch(self, x: Any, k: int, mask: tf.Tensor | None = None) -> ServingBatch:
    return ServingBatch(self._model, x, k, self._noise, mask)

  def _of_x(self, function: Callable[[Any], Outputs], outputs: dict[str, str], **options) -> Signature:
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
    return self._of_x(lambda x: self._refined(self._batch(x, k)), self._refined_texts(k))

  def _refined(self, batch: ServingBatch) -> Outputs:
    initial, refined = batch.start(), batch.posterior()
    return {
      **self._model.family.columns(refined),
      "elbo_initial": -batch.bound(initial).neg_elbo,
      "elbo_refined": -batch.bound(refined).neg_elbo,
    }

  def _refined_texts(self, k: int) -> dict[str, str]:
    return {
      **_texts(self._model, f"q_λK, K = {k}"),
      "elbo_initial": "ELBO at λ_0, nats",
      "elbo_refined": "ELBO at λ_K, nats, with the same noise",
    }

  def refined_masked(self, given: payloads.Input) -> Signature:
    """λ_K of the parts that were seen, and their bounds before and after."""
    mask, k = self._form.mask, self._options.k[0]
    both = given.beside(mask)

    def function(raw):
      x_and_mask = both.to_x(raw), mask.to_x(raw["mask"])
      return _of_any_size(lambda pair: self._refined(self._batch(pair[0], k, pair[1])), x_and_mask)

    texts = {
      name: text.replace("ELBO", "ELBO of what was seen") for name, text in self._refined_texts(k).items()
    }
    return Signature(function, both.spec, both.examples, both.text, texts, tables=self._form.tables)

  def complete(self, given: payloads.Input) -> Signature:
    """x with its unseen parts drawn, each row alone with its own seed."""
    mask, drawn, decoder = self._form.mask, self._form.drawn, self._model.decoder
    both = given.beside(mask, _SEED)

    def one(parts):
      row = tf.nest.map_structure(lambda part: part[tf.newaxis], parts)
      seeds = tf.random.experimental.stateless_split(tf.stack([parts["seed"], self._options.seed]), 2)
      z = None
      if params := row.get("params"):
        size = [1, self._model.latent_dim]
        noise = tf.random.stateless_normal(size, seeds[0], dtype=self._model.variable_dtype)
        z = self._model.family.sample(params, noise)
      x, seen = row["x"], masking.mask_for(decoder, row["x"], row["mask"])
      return drawn.of_x(masking.complete(decoder, x, seen, z, seeds[1], **self._model.given(x)))[0]

    def function(parts):
      params = self._batch(parts["x"], self._k, parts["mask"]).posterior()
      if params is not None:
        parts = {**parts, "params": params}
      return {drawn.name: tf.map_fn(one, parts, fn_output_signature=drawn.spec)}

    def of_raw(raw):
      seed = payloads.checked("seed", raw["seed"], [])
      return _of_any_size(function, {"x": both.to_x(raw), "mask": mask.to_x(raw["mask"]), "seed": seed})

    text = f"x with its unseen parts drawn, z from q at λ_{self._k} of what was seen: {drawn.text}"
    return Signature(
      of_raw,
      both.spec,
      both.examples,
      both.text,
      {drawn.name: text},
      follows_greedy_path=True,
      tables=self._form.tables,
    )

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
      return {decoding.reconstruction: decoding.of_z(z, **self._model.given(x))}

    texts = {decoding.reconstruction: f"what `{decoding.signature}` gives at the mean of q at λ_{self._k}"}
    return self._of_x(function, texts, follows_greedy_path=True, tables=self._form.tables)

  def from_latent(self) -> Signature:
    """z, and what a conditional model is given, to what it stands for."""
    decoding, size = self._form.from_latent, self._model.latent_dim
    z = payloads.Input(
      tf.TensorSpec([None, size], tf.float32, "z"),
      lambda z: payloads.checked("z", z, [size]),
      lambda n: np.random.default_rng(0).normal(size=[n, size]).astype(np.float32),
      f"latent code {self._latent}, float32; p(z) = N(0, I)",
    )
    return self._given(
      z,
      lambda z, **given: {decoding.output: decoding.of_z(z, **given)},
      {decoding.output: decoding.text},
    )

  def sample(self) -> Signature:
    """One x per seed, each drawn alone, since the draws of a batch would depend on the row's position."""
    drawn = self._form.drawn

    def one(parts):
      seed, given = parts
      given = {name: value[tf.newaxis] for name, value in given.items()}
      seeds = tf.stack([seed, self._options.seed])
      return drawn.of_x(self._model.decoder.sample(None, seeds, num=1, **given))[0]

    return self._given(
      _SEED,
      lambda seed, **given: {drawn.name: tf.map_fn(one, (seed, given), fn_output_signature=drawn.spec)},
      {drawn.name: drawn.text},
    )

  def _given(
    self, first: payloads.Input, function: Callable[..., Outputs], outputs: dict[str, str]
  ) -> Signature:
    """A signature of `first` and, for a conditional model, of what it is given."""
    condition = self._form.condition
    both = first if condition is None else first.beside(condition)

    def of_raw(raw):
      given = {}
      if condition is not None:
        [name] = condition.specs
        given = {"condition": condition.to_x(raw[name])}
      pair = both.to_x(raw), given
      return _of_any_size(lambda pair: function(pair[0], **pair[1]), pair)

    return Signature(
      of_raw,
      both.spec,
      both.examples,
      both.text,
      outputs,
      follows_greedy_path=True,
      tables=self._form.tables,
    )
