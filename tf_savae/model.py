"""`SAVAE`, the Keras model: encoder, decoder, a training method, and K SVI steps between them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_savae import (
  lagging,
  masking,
  methods,
  model_checks,
  observations,
  replicas,
  saved_model,
  schedules,  # noqa: F401 (saved models name them)
  strategy_checks,
  update,
)
from tf_savae.example_weights import unpack
from tf_savae.inference import Inference, Inferred, RowByRow, encode
from tf_savae.keras_guards import GuardedModel
from tf_savae.measured import Measured, sum_of_floats
from tf_savae.metrics import Mean, MeanVector, Sum
from tf_savae.ops.gradients import dense_gradients
from tf_savae.ops.owned_gradients import freed_with_self
from tf_savae.posterior import Params
from tf_savae.posteriors import POSTERIORS, PosteriorFamily, family
from tf_savae.seeds import Purpose, stateless_seed
from tf_savae.svi import SVISettings
from tf_savae.svi import adjoint as adjoint_lib
from tf_savae.svi.registries import from_config, plain, to_config
from tf_savae.svi.settings import settings_from_config, settings_to_config
from tf_savae.svi.step_sizes import StepSizes


@keras.saving.register_keras_serializable(package="tf_savae")
class SAVAE(GuardedModel):
  """A latent-variable model whose posterior is refined by K SVI steps, trained by any method of the paper's tables.

  Use it as any Keras model: `compile(optimizer)`, `fit(x)`, `evaluate(x)`, `predict(x)`. Losses and metrics are nats
  per example.

  Args:
    encoder: Keras layer `x -> GaussianParams` (or a pair mean, log_var), each `[batch, latent]`; None for methods
      without one. With a full covariance it may also give a `FullGaussianParams`.
    decoder: Keras layer with `latent_dim` (0: no latent), `log_prob(x, z, context) -> [batch]` and, optionally,
      `precompute(x) -> context`, `sample(z, seed)`, `decode(z)`. See `tf_savae.networks.Decoder`.
    method: a name in `tf_savae.methods.METHODS`.
    svi: the refinement; its `num_steps` is K in training.
    posterior: what q_λ is: "diagonal", "full" (a full covariance) or "iaf" (an inverse autoregressive flow on top of
      the diagonal Gaussian, with weights in φ), or a `tf_savae.posteriors.PosteriorFamily`.
    eval_k: K at evaluation; default: K for methods that refine, else 0.
    k_schedule: number of the update → how many of the K steps it takes; None: all of them. It can be a Keras
      learning-rate schedule with whole numbers from 1 to K. Evaluation does not use it.
    adjoint: how `savae` differentiates through the K steps, a name or object of `tf_savae.svi.adjoint`.
    learn_step_size: "none", "step" (K numbers) or "latent" (K per latent): trains α, starting from `svi.step_size`.
    initial_loss_weight: `savae` only: weight of L(λ_0) in the loss, for an encoder that is good by itself.
    initial_loss_trains: what L(λ_0) trains: "encoder", or "both" encoder and decoder.
    beta: weight of the KL in training: a number, or a Keras learning-rate schedule, a function of the step.
    free_bits: nats of KL that each latent may have without penalty in training (Kingma et al. 2016).
    objective: the bound at λ_K in training: "elbo"; "iwae", with `iwae_samples` draws (Burda et al. 2016); or
      "buffered", with a draw from each of λ_0 … λ_K (Shu et al. 2019). Steps and evaluation are about the ELBO still.
    iwae_samples: S of "iwae", 1 or more.
    lagging_updates: lagging inference (He et al. 2019): at most so many updates of the encoder alone before each of the
      decoder; 0: none. It ends when the mutual information of validations falls, so `fit` needs `validation_data`.
    global_clip_norm: bound on the global norm of the gradient of the batch's mean loss; None: no clipping.
    seed: all noise is a function of it and the step.

  Raises:
    ValueError: if method and networks do not fit together, or a name is unknown.

  Example:
    >>> import keras
    >>> import numpy as np
    >>> from tf_savae import SAVAE, SVISettings
    >>> from tf_savae.networks import GatedPixelCNN, ResNetEncoder
    >>> x = np.random.default_rng(0).integers(0, 2, [8, 8, 8, 1]).astype("float32")
    >>> encoder = ResNetEncoder(latent_dim=2, channels=(4, 4))
    >>> decoder = GatedPixelCNN(latent_dim=2, channels=4, kernel_sizes=(3, 3), image_shape=(8, 8, 1))
    >>> model = SAVAE(encoder, decoder, svi=SVISettings(num_steps=2, step_size=0.02))
    >>> model.compile(keras.optimizers.Adam(1e-3))
    >>> _ = model.fit(x, batch_size=4, verbose=0)
    >>> model.refine(x).mean.shape
    TensorShape([8, 2])
    >>> model.elbo(x).shape
    TensorShape([8])
  """

  def __init__(
    self,
    encoder: keras.layers.Layer | None,
    decoder: keras.layers.Layer,
    method: str = "savae",
    svi: SVISettings | None = None,
    *,
    posterior: str | PosteriorFamily = "diagonal",
    eval_k: int | None = None,
    k_schedule: keras.optimizers.schedules.LearningRateSchedule | None = None,
    adjoint: str | adjoint_lib.Adjoint = "exact",
    learn_step_size: str = "none",
    initial_loss_weight: float = 0.0,
    initial_loss_trains: str = "encoder",
    beta: float | keras.optimizers.schedules.LearningRateSchedule = 1.0,
    free_bits: float = 0.0,
    objective: str = "elbo",
    iwae_samples: int = 5,
    lagging_updates: int = 0,
    global_clip_norm: float | None = None,
    seed: int = 0,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    self.method, self.method_name = methods.get(method), method
    self.svi, self.k_schedule, self.adjoint = svi or SVISettings(), k_schedule, adjoint_lib.get(adjoint)
    self.encoder, self.decoder = encoder if self.method.has_encoder else None, decoder
    self.family = family.get(posterior)
    self.latent_dim, self.seed = decoder.latent_dim, seed
    self.initial_loss_weight, self.initial_loss_trains = initial_loss_weight, initial_loss_trains
    self.beta, self.free_bits, self.global_clip_norm = beta, free_bits, global_clip_norm
    self.objective, self.iwae_samples, self.lagging_updates = objective, iwae_samples, lagging_updates
    self.eval_k = eval_k if eval_k is not None else (self.svi.num_steps if self.method.refines else 0)
    model_checks.check(self, encoder, learn_step_size)
    options = {"name": "step_sizes", "dtype": self.dtype_policy}
    self.step_sizes = StepSizes(self.svi, learn_step_size, self.latent_dim, seed, self.family.kind, **options)
    self._make_posterior_network()
    self.lagging = lagging.Lagging(lagging_updates, name="lagging") if lagging_updates else None
    self._built_on: tuple[Any, Any] | None = None  # shape and dtype of x, or of its parts
    self._make_counters_and_metrics()

  def _make_posterior_network(self):
    """The network of a family that has one, an attribute of the model because its weights are among φ."""
    self.posterior_network = None
    if self.family.trained:
      spec: Any = self.family
      self.posterior_network = spec.make_network(self.latent_dim, self.seed, self.variable_dtype)
      self.family = dataclasses.replace(spec, network=self.posterior_network)

  def _make_counters_and_metrics(self):
    counter = {"shape": (), "dtype": "int64", "initializer": "zeros", "trainable": False}
    self.step = self.add_weight(name="step", **counter)
    self.skipped = self.add_weight(name="skipped", **counter)
    self.skipped_in_a_row = self.add_weight(name="skipped_in_a_row", **counter)
    names = ["loss", "bound", "nll", "kl"]
    if self.method.has_encoder:
      names += ["bound_initial", "kl_initial"]
    if self.method.has_encoder or self.posterior_network is not None:
      names.append("gradient_norm_encoder")
    self.skip_reasons = update.SkipReasons()
    self.means = {name: Mean(name) for name in [*names, "gradient_norm_decoder"]}
    self.information = Mean(lagging.INFORMATION) if self.lagging is not None else None
    self.mean_step_losses = MeanVector(self.svi.num_steps, name="path") if self.method.refines else None
    self.examples = Sum(name="examples", dtype="float32")

  # Inference --------------------------------------------------------------------------------------------------

  def encode(self, x: Any, training: bool = False) -> Params:
    """λ_0 = enc_φ(x), each `[batch, latent]`, in the variables' precision (float32 under mixed precision)."""
    if self.encoder is None:
      raise ValueError(f"encode needs a method with an encoder. Received: method={self.method_name!r}")
    return encode(self.encoder, x, training, self.variable_dtype, self.family)

  def refine(self, x: Any, k: int | None = None, mask: Any = None) -> Params:
    """λ_K after `k` SVI steps (default `eval_k`) from the method's λ_0, each `[batch, latent]`.

    Args:
      x: the observation.
      k: SVI steps.
      mask: 1 where x was seen and 0 elsewhere; the steps then climb the ELBO of the seen parts.
    """
    # Refused without a posterior.
    return self.posterior(self.inference(x, k, mask=mask))[0]  # type: ignore[return-value]

  def elbo(self, x: Any, k: int | None = None, mask: Any = None) -> tf.Tensor:
    """One-draw ELBO at λ_K, `[batch]`, nats; log p(x) for a model without a latent. `mask` as of `refine`."""
    inference = self.inference(x, k, mask=mask)
    return -inference.bound(self.posterior(inference)[0]).neg_elbo

  def log_likelihood(
    self, x: Any, num_samples: int = 100, k: int | None = None, mask: Any = None
  ) -> tf.Tensor:
    """Importance-sampled log p_θ(x) `[batch]`, nats: log (1/S) Σ_s p(x, z_s) / q(z_s), z_s ~ q_λK.

    In expectation this is a lower bound, which tightens with S (Burda et al. 2016). Draws are taken one at a time for
    the whole batch, so memory does not grow with S. For a model without a latent the result is exact.

    Args:
      x: the observation.
      num_samples: S ≥ 1.
      k: SVI steps for the proposal; default `eval_k`.
      mask: as of `refine`.
    """
    if num_samples < 1:
      raise ValueError(f"num_samples must be 1 or more. Received: {num_samples}")
    inference = self.inference(x, k, mask=mask)
    return inference.log_likelihood(self.posterior(inference)[0], num_samples)

  # Generation -------------------------------------------------------------------------------------------------

  def decode(self, z: tf.Tensor, **given: Any) -> tf.Tensor:
    """The decoder's expected observation at z `[batch, latent]`; for binary images these are pixel probabilities.

    Args:
      z: the latent.
      **given: further arguments of the decoder's `decode`, such as the `condition` of a conditional one.
    """
    return self.decoder.decode(z, **given)

  def given(self, x: Any) -> dict[str, Any]:
    """What observations x are conditional on, as arguments of the decoder's `sample` and `decode`."""
    return {"condition": self.decoder.condition_of(x)} if hasattr(self.decoder, "condition_of") else {}

  def sample(self, n: int, seed: int = 0, progress: bool = False, **given: Any) -> tf.Tensor:
    """`n` observations x ~ p_θ(x | z), z ~ p(z), a function of (model seed, `seed`); `given` as for `decode`."""
    z = None
    if self.latent_dim:
      z = tf.random.stateless_normal([n, self.latent_dim], stateless_seed(self.seed, seed, Purpose.PRIOR))
    seed = stateless_seed(self.seed, seed, Purpose.GENERATE)
    return self.decoder.sample(z, seed, num=n, progress=progress, **given)

  def reconstruct(self, x: Any, k: int | None = None, seed: int = 0) -> tf.Tensor:
    """Observations drawn from p_θ(x | z) at the center z of q_λ after `k` steps (default `eval_k`)."""
    z = self.family.center(self.refine(x, k))
    return self.decoder.sample(z, stateless_seed(self.seed, seed, Purpose.GENERATE), **self.given(x))

  def complete(self, x: Any, mask: Any, k: int | None = None, seed: int = 0) -> tf.Tensor:
    """x with its unseen parts drawn: z from q_λK of the seen parts, then these parts from p_θ(x | z).

    An autoregressive decoder keeps the seen parts while it draws, so that each drawn part fits those before it.

    Args:
      x: the observation; what was not seen may have any value.
      mask: 1 where x was seen and 0 elsewhere, in the shape of x; the channels and the batch may be left out.
      k: SVI steps; default `eval_k`.
      seed: of z and of what is drawn.

    Raises:
      UserError: the decoder cannot tell parts of x apart, or the mask has another shape.
    """
    mask = masking.mask_for(self.decoder, tf.nest.map_structure(tf.convert_to_tensor, x), mask)
    params = self.posterior(self.inference(x, k, mask=mask))[0]
    z = None
    if params is not None:
      noise_seed = stateless_seed(self.seed, seed, Purpose.POSTERIOR)
      noise = tf.random.stateless_normal(tf.shape(params.mean), noise_seed, dtype=params.mean.dtype)
      z = self.family.sample(params, noise)
    seed = stateless_seed(self.seed, seed, Purpose.GENERATE)
    return masking.complete(self.decoder, x, mask, z, seed, **self.given(x))

  # Training ---------------------------------------------------------------------------------------------------

  @freed_with_self
  def train_step(self, data: Any) -> dict[str, tf.Tensor]:
    """One update on a batch, by the method's loss; the running means of the epoch, nats per example."""
    (x, weights), step = unpack(data), tf.identity(self.step.value)
    self.ensure_built(x)
    statistics = update.BatchStatistics(self._networks())
    # Two tapes. This one takes the gradient for θ and φ. Within it each of the K steps of `infer` opens another, which
    # takes the gradient for λ (tf_savae.svi.derivatives) and is differentiated in its turn by the adjoint.
    with replicas.sharing(x):
      with tf.GradientTape() as tape:
        inferred = self.infer(self._training_inference(x, step))
        loss = inferred.penalised(weights.loss(self.method.loss(inferred)))
        scaled = self.optimizer.scale_loss(loss)
      gradients = dense_gradients(tape, scaled, [v.value for v in self.trainable_variables])
      own = replicas.without_rows_zero([loss, *update.unscaled(self.optimizer, gradients)])
      loss, *gradients = replicas.total(own)
      self._update(loss, gradients, inferred, weights, statistics, x)
    self.step.assign(step + 1)
    return replicas.step_output(self.training_results())

  def infer(self, inference: Inference) -> Inferred:
    """The results of inference for the method's loss; the method decides how they are differentiable."""
    return inference.infer(
      refines=self.method.refines,
      adjoint=self.adjoint if self.method.differentiates else None,
      initial_loss=1.0 if self.method.trains_encoder_on_initial else self.initial_loss_weight,
      initial_loss_trains=self.initial_loss_trains,
    )

  def _training_inference(self, x, step):
    # The tape is not persistent, since TensorFlow would then prepare the loops under it for higher derivatives. The
    # loops' custom gradient makes those useless, and tracing would take several times as long.
    return self._inference(
      x,
      self.svi.num_steps,
      step=step,
      purpose=Purpose.NOISE,
      beta=self.beta(step) if callable(self.beta) else self.beta,
      free_bits=self.free_bits,
      training=True,
      k_now=None if self.k_schedule is None else self.k_schedule(step),
      objective=self.objective,
      iwae_samples=self.iwae_samples,
    )

  def _update(self, loss, gradients, inferred, weights, statistics, x):
    """Applies the gradients and records the losses, or counts a skipped update if something is not finite."""
    theta = {id(v) for v in self.decoder.trainable_variables}
    # The step sizes count as the encoder's: they are inference parameters.
    groups = {"decoder": [], "encoder": []}
    for variable, gradient in zip(self.trainable_variables, gradients, strict=True):
      groups["decoder" if id(variable) in theta else "encoder"].append(gradient)
    norms = {f"gradient_norm_{name}": tf.linalg.global_norm(group) for name, group in groups.items() if group}

    measured = Measured(inferred, weights, {"loss": loss, **norms}, self.svi.num_steps)
    if replicas.is_replica():
      x = sum_of_floats(x)  # of all replicas

    def on_update():
      measured.record(self.means, self.mean_step_losses)
      self.skipped_in_a_row.assign(tf.zeros_like(self.skipped_in_a_row.value))
      if self.lagging is not None:
        terms = lagging.num_terms(self.decoder, x, measured.size)
        self.lagging.after_update(tf.cast(loss, tf.float32) * measured.size, terms)

    def on_skip():
      statistics.put_back()
      self.skip_reasons.count(x, loss, norms)
      for counter in (self.skipped, self.skipped_in_a_row):
        counter.assign(counter.value + 1)

    # Without variables, as of `svi` with a decoder that is a constant, there is a loss and nothing to update.
    norm = tf.linalg.global_norm(list(norms.values())) if norms else tf.zeros_like(loss)
    pairs = list(zip(gradients, self.trainable_variables, strict=True))
    apply_to = None
    if self.lagging is not None:
      apply_to = functools.partial(self.lagging.apply, self.optimizer, theta=theta)
    options = {"on_update": on_update, "on_skip": on_skip, "apply_to": apply_to}
    update.apply_if_finite(self.optimizer, pairs, norm, loss, self.global_clip_norm, **options)
    self.examples.update_state(measured.size)

  @freed_with_self
  def test_step(self, data: Any) -> dict[str, tf.Tensor]:
    """The bounds of a batch at λ_0 and λ_K, without an update; the running means, nats per example."""
    (x, weights), step = unpack(data), tf.cast(self.examples.result(), tf.int64)
    with replicas.sharing(x):
      inference = self.inference(x, step=step)
      inferred = inference.infer(refines=inference.settings.num_steps > 0)
      loss = replicas.total(inferred.penalised(weights.loss(inferred.final.neg_elbo)))
      measured = Measured(inferred, weights, {"loss": loss}, self.svi.num_steps)
    measured.record(self.means, self.mean_step_losses)
    self.examples.update_state(measured.size)
    results = self.training_results()
    if self.information is not None:
      value = lagging.mutual_information(inferred.start, inference.noise[-1])  # type: ignore[arg-type] # a diagonal Gaussian
      self.information.update_state(value, sample_weight=measured.size)
      results[lagging.INFORMATION] = self.information.result()
    return replicas.step_output(
      {name: value for name, value in results.items() if not name.startswith("gradient_norm")}
    )

  @freed_with_self
  def predict_step(self, data: Any) -> dict[str, tf.Tensor]:
    """Posterior parameters of a batch: λ_K and, with an encoder, λ_0."""
    x = unpack(data)[0]
    with replicas.sharing(x):
      return self.posterior_outputs(x)

  def posterior_outputs(self, x: Any, row_by_row: bool = False) -> dict[str, tf.Tensor]:
    """λ_K as mean and log_var; with an encoder, λ_0 as mean_initial and log_var_initial.

    These are the columns of a diagonal Gaussian; other families have more, see `PosteriorFamily.columns`.

    Args:
      x: the observation.
      row_by_row: whether all rows get the same noise; else it depends on a row's place.
    """
    kind = RowByRow if row_by_row else Inference
    params, start, _ = self.posterior(self.inference(x, kind=kind))
    if params is None:
      raise ValueError(f"predict needs a method with a posterior. Received: method={self.method_name!r}")
    result = self.family.columns(params)
    if self.method.has_encoder:
      initial = self.family.columns(start)  # type: ignore[arg-type] # the encoder's
      result |= {f"{name}_initial": value for name, value in initial.items()}
    return result

  def own_callbacks(self) -> list[keras.callbacks.Callback]:
    """Callbacks that training needs besides those of `fit`."""
    return [] if self.lagging is None else [lagging.Validations()]

  def training_results(self) -> dict[str, tf.Tensor]:
    """The running means of this epoch, by name, nats per example."""
    return {name: mean.result() for name, mean in self.means.items()}

  def inference(self, x: Any, k: int | None = None, step: int | tf.Tensor = 0, **options: Any) -> Inference:
    """Inference for `x` with `k` SVI steps (default `eval_k`), β = 1, no dropout; `step` varies the noise."""
    observations.check_array(self.decoder, x)
    x = tf.nest.map_structure(tf.convert_to_tensor, x)
    self.ensure_built(x)
    return self._inference(x, self.eval_k if k is None else k, step=step, **options)

  def _inference(self, x, k, kind=Inference, **options):
    return kind(
      self.encoder,
      self.decoder,
      x,
      self.step_sizes.settings(k),
      seed=self.seed,
      dtype=self.variable_dtype,
      family=self.family,
      **options,
    )

  def posterior(self, inference: Inference) -> tuple[Params | None, Params | None, tf.Tensor | None]:
    """λ_K, λ_0 and L(λ_k) for k < K `[K, batch]`, as constants; None for those that do not exist."""
    start = inference.start()
    if start is None or inference.settings.num_steps == 0:
      return start, start, None
    params, _, step_losses = inference.refine(start, adjoint=None)
    return params, start, step_losses

  # Building and saving ----------------------------------------------------------------------------------------

  def call(self, x: Any, training: bool = False) -> Params | None:
    """The method's λ_0. Use `refine` for λ_K."""
    return self.inference(x, 0).start()

  def export(
    self,
    filepath: Any,
    format: str = "tf_saved_model",
    verbose: bool | None = None,
    *,
    k: int | Sequence[int] | None = None,
    inputs: Any = None,
    seed: int = 0,
    num_samples: int | None = None,
    masks: bool = False,
  ) -> None:
    """Writes a SavedModel: the posterior, or everything that `python -m tf_savae export` gives to clients.

    In both, `serve` and `serving_default` map x `[batch, ...]` to what `predict` gives for each row alone. With `k` or
    `inputs`, there are also `encode`, `encode_refined` and `encode_refined_<K>`, `elbo`, and, if the decoder has
    `decode`, `reconstruct` and `decode`. Such an export comes with a model card and warm-up requests. It is
    written only if TensorFlow's C++ loader, without Python, gives the model's numbers for every signature.

    Args:
      filepath: the new directory, such as models/mine/1 for TensorFlow Serving; a SavedModel there is replaced.
      format: "tf_saved_model".
      verbose: without `k` and `inputs`: whether Keras prints what it wrote.
      k: numbers of SVI steps to serve; the first is that of `encode_refined`, `elbo` and `reconstruct`. Default:
        `eval_k`.
      inputs: example observations `[n, ...]` for the checks; default: made up within the decoder's `support`. Or a
        mapping: "" to such examples, and further suffixes of signatures to a `tf_savae.serving.payloads.Input`.
      seed: seed of the noise of the signatures that `k` adds; all rows share it.
      num_samples: noise draws averaged in each SVI step and bound; default: as in training.
      masks: whether `encode_refined_masked` and, if the decoder has `sample`, `complete` are served as well; they take
        a mask beside x.

    Raises:
      UserError: an argument is wrong, the shape of x is not known, or the gate found a difference.
    """
    if k is None and inputs is None and not masks:
      return saved_model.export(self, filepath, format, verbose)
    return saved_model.export_for_clients(
      self, filepath, format, k=k, inputs=inputs, seed=seed, num_samples=num_samples, masks=masks
    )

  def _networks(self):
    return [net for net in (self.encoder, self.decoder) if net is not None]

  def ensure_built(self, x: Any) -> None:
    """Creates the networks' variables by one pass over the shape of `x`, in a graph that is never run."""
    if self._built_on is None:
      self._build_on(**observations.described(tf.nest.map_structure(tf.convert_to_tensor, x)))

  def _build_on(self, shape, dtype):
    if self._built_on is not None:
      return
    self._built_on = (shape, dtype)

    def once(x):
      return self._inference(x, 0).infer(refines=False).final.nll

    graph = tf.__internal__.FuncGraph("build")
    with self.distribute_strategy.scope(), graph.as_default():
      specs = observations.specs(shape, dtype)
      once(tf.nest.map_structure(lambda spec: tf.compat.v1.placeholder(spec.dtype, spec.shape), specs))
    if self._distribute_strategy is not None:
      strategy_checks.check_networks(self._networks())
    self.built = True

  def build(self, input_shape: Any) -> None:
    """Keras's hook; `ensure_built` does the work as soon as the dtype of x is known, too."""

  def get_build_config(self) -> dict[str, Any] | None:
    return None if self._built_on is None else {"shape": self._built_on[0], "dtype": self._built_on[1]}

  def build_from_config(self, config: dict[str, Any]) -> None:
    if config and "shape" in config:
      self._build_on(config["shape"], config["dtype"])

  def get_config(self) -> dict[str, Any]:
    serialize = keras.saving.serialize_keras_object
    return {
      **super().get_config(),
      "encoder": serialize(self.encoder),
      "decoder": serialize(self.decoder),
      "method": self.method_name,
      "svi": settings_to_config(self.svi),
      "posterior": to_config(POSTERIORS, self.family),
      "eval_k": plain(self.eval_k),
      "k_schedule": None if self.k_schedule is None else serialize(self.k_schedule),
      "adjoint": adjoint_lib.to_config(self.adjoint),
      "learn_step_size": self.step_sizes.learned,
      "initial_loss_weight": plain(self.initial_loss_weight),
      "initial_loss_trains": self.initial_loss_trains,
      "beta": serialize(self.beta) if callable(self.beta) else plain(self.beta),
      "free_bits": plain(self.free_bits),
      "objective": self.objective,
      "iwae_samples": plain(self.iwae_samples),
      "lagging_updates": plain(self.lagging_updates),
      "global_clip_norm": plain(self.global_clip_norm),
      "seed": plain(self.seed),
    }

  @classmethod
  def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SAVAE:
    config = dict(config)
    for name in ("encoder", "decoder", "beta", "k_schedule"):
      if isinstance(config.get(name), dict):
        config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
    if "clip_norm" in config:  # saved before the setting was renamed
      config["global_clip_norm"] = config.pop("clip_norm")
    if isinstance(config.get("svi"), Mapping):
      config["svi"] = settings_from_config(config["svi"])
    if isinstance(config.get("posterior"), Mapping):
      config["posterior"] = from_config(POSTERIORS, config["posterior"])
    if isinstance(config.get("adjoint"), Mapping):
      config["adjoint"] = adjoint_lib.from_config(config["adjoint"])
    return cls(**config)
