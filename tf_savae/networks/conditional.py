"""Conditional models p(x | z, c) and q(z | x, c) from networks that know no labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_savae import precision
from tf_savae.errors import UserError
from tf_savae.networks.checks import check
from tf_savae.networks.decoder import Decoder
from tf_savae.observations import IMAGE, LABEL, Conditional, part
from tf_savae.posterior import GaussianParams

_NO_VARIANCE = -80.0  # log σ² of a label in q: e⁻⁸⁰ is not yet 0 in float32


@keras.saving.register_keras_serializable(package="tf_savae")
class ConditionalDecoder(Decoder):
  """p_θ(x | z, c) of observations that are a dict or a tuple with x and a label c.

  A decoder with a latent of size L + C becomes one with a latent of size L: it sees z and the label, one-hot, side by
  side. The likelihood covers x alone.

  Source: the conditional VAE of Sohn, Lee & Yan, *Learning Structured Output Representation using Deep Conditional
  Generative Models*, 2015, with a prior that does not depend on c.

  Args:
    decoder: its latent has `num_labels` more places than z.
    num_labels: how many labels there are, numbered from 0.
    observed, given: names, or places, of x and c among the parts of an observation.
    **kwargs: of `keras.layers.Layer`.

  Raises:
    UserError: the decoder's latent has no room for the labels.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import ConditionalDecoder, MLPDecoder
    >>> decoder = ConditionalDecoder(MLPDecoder(2 + 3, (4, 4, 1), units=(8,)), num_labels=3)
    >>> x = {"image": tf.zeros([5, 4, 4, 1]), "label": tf.zeros([5], tf.int32)}
    >>> decoder.latent_dim, decoder.log_prob(x, tf.zeros([5, 2]), decoder.precompute(x)).shape  # nats
    (2, TensorShape([5]))
  """

  def __init__(
    self,
    decoder: keras.layers.Layer,
    num_labels: int,
    *,
    observed: str | int = IMAGE,
    given: str | int = LABEL,
    **kwargs: Any,
  ):
    kwargs.setdefault("dtype", decoder.dtype_policy)
    super().__init__(**kwargs)
    check(
      1 <= num_labels <= decoder.latent_dim,
      f"num_labels must be from 1 to the decoder's latent_dim={decoder.latent_dim}",
      num_labels,
      "make the decoder with a latent of the size of z and num_labels together",
    )
    self.decoder, self.num_labels = decoder, num_labels
    self.observed, self.given = observed, given
    self.latent_dim = decoder.latent_dim - num_labels
    self.support = Conditional(getattr(decoder, "support", None), observed, given, num_labels)  # type: ignore[assignment]
    # What a decoder offers beside `log_prob`, a conditional one of it offers, too.
    self.takes_many_z = getattr(decoder, "takes_many_z", False)
    for name in (
      "log_prob_derivative",
      "log_prob_of_parts",
      "expected_log_prob",
      "expected_log_prob_derivative",
      "expected_log_prob_of_parts",
      "complete",
    ):
      if hasattr(decoder, name):
        setattr(self, name, getattr(self, f"_{name}"))

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Shape of one image, of a decoder of images."""
    return self.decoder.image_shape

  @property
  def likelihood(self) -> Any:
    """The decoder's likelihood, if it has one to be seen."""
    return getattr(self.decoder, "likelihood", None)

  def precompute(self, x: Any, training: bool = False, seed: tf.Tensor | None = None) -> tuple:
    inner = getattr(self.decoder, "precompute", None)
    context = () if inner is None else inner(part(x, self.observed), training=training, seed=seed)
    return (self._one_hot(part(x, self.given)), *context)

  def log_prob(self, x: Any, z: tf.Tensor | None, context: tuple) -> tf.Tensor:
    return self.decoder.log_prob(part(x, self.observed), self._beside(z, context[0]), context[1:])

  @property
  def couples_channels(self) -> bool:
    """Whether the channels of a place depend on each other."""
    return getattr(self.decoder, "couples_channels", False)

  def _log_prob_of_parts(self, x, z, context):
    both = self._beside(z, context[0])
    return self.decoder.log_prob_of_parts(part(x, self.observed), both, context[1:])

  def _expected_log_prob_of_parts(self, x, params, context):
    both = self._params_beside(params, context[0])
    return self.decoder.expected_log_prob_of_parts(part(x, self.observed), both, context[1:])

  def _complete(self, x, mask, z, seed, progress=False, condition=None):
    """The decoder's `complete`, of x alone and with labels as for `sample`."""
    return self.decoder.complete(x, mask, self._rows(z, tf.shape(x)[0], condition), seed, progress)

  def _log_prob_derivative(self, x, z, dz, context):
    """⟨dz, ∇_z log p⟩, `[batch]`, where the decoder writes it by hand."""
    label = context[0]
    both, tangent = self._beside(z, label), tf.concat([dz, tf.zeros_like(label)], axis=-1)
    return self.decoder.log_prob_derivative(part(x, self.observed), both, tangent, context[1:])

  def _expected_log_prob(self, x, params, context):
    """E_q[log p(x | z, c)], `[batch]`, where the decoder has it in closed form."""
    both = self._params_beside(params, context[0])
    return self.decoder.expected_log_prob(part(x, self.observed), both, context[1:])

  def _expected_log_prob_derivative(self, x, params, tangent, context):
    label = context[0]
    both = self._params_beside(params, label)
    along = GaussianParams(*(tf.concat([each, tf.zeros_like(label)], axis=-1) for each in tangent))
    return self.decoder.expected_log_prob_derivative(part(x, self.observed), both, along, context[1:])

  def _params_beside(self, params, label):
    """q of z and the label, whose variance is 0."""
    certain = tf.fill(tf.shape(label), tf.constant(_NO_VARIANCE, label.dtype))
    return GaussianParams(self._beside(params.mean, label), self._beside(params.log_var, certain))

  def sample(
    self,
    z: tf.Tensor | None,
    seed: tf.Tensor,
    num: int | None = None,
    progress: bool = False,
    condition: Any = None,
  ) -> tf.Tensor:
    """x drawn from p_θ(x | z, c).

    Args:
      z, seed, num, progress: as for `Decoder.sample`.
      condition: labels c `[batch]`; None: 0, 1, 2, … one after the other.
    """
    both = self._rows(z, num, condition)
    return self.decoder.sample(both, seed, num=num, progress=progress)

  def decode(self, z: tf.Tensor | None, condition: Any = None) -> tf.Tensor:
    """The decoder's expected x at z and c; `condition` as for `sample`."""
    return self.decoder.decode(self._rows(z, 1, condition))

  def condition_of(self, x: Any) -> tf.Tensor:
    """What `sample` and `decode` take as the condition of observations x."""
    return part(x, self.given)

  def _rows(self, z, num, condition):
    if self.latent_dim:
      check(z is not None, f"this decoder samples given z [batch, {self.latent_dim}]", z, "pass z")
      num = tf.shape(z)[0]
    elif condition is not None:
      num = tf.shape(condition)[0]
    if condition is None:
      condition = tf.range(num) % self.num_labels
    return self._beside(z, self._one_hot(condition))

  def _one_hot(self, labels):
    return tf.one_hot(tf.cast(labels, tf.int32), self.num_labels, dtype=self.variable_dtype)

  def _beside(self, z, label):
    if z is None:
      return label
    if len(z.shape) == 3:  # [batch, n, latent]
      label = tf.repeat(label[:, tf.newaxis], tf.shape(z)[1], axis=1)
    return tf.concat([tf.cast(z, label.dtype), label], axis=-1)

  @contextlib.contextmanager
  def computing_in(self, dtype: str) -> Iterator[None]:
    with self.decoder.computing_in(dtype):
      yield

  def get_config(self):
    return {
      **super().get_config(),
      "decoder": keras.saving.serialize_keras_object(self.decoder),
      "num_labels": self.num_labels,
      "observed": self.observed,
      "given": self.given,
    }

  @classmethod
  def from_config(cls, config):
    return cls(**_with_layer(config, "decoder"))


@keras.saving.register_keras_serializable(package="tf_savae")
class ConditionalEncoder(keras.layers.Layer):
  """λ_0 = enc_φ(x, c): an encoder of images that sees the label as further channels, 1 everywhere or 0 everywhere.

  Args:
    encoder: of images with `num_labels` more channels.
    num_labels: how many labels there are, numbered from 0.
    observed, given: names, or places, of the image and of c among the parts of an observation.
    **kwargs: of `keras.layers.Layer`.

  Source: Sohn, Lee and Yan (2015).

  Raises:
    UserError: there is not a label or more.

  Example:
    >>> import tensorflow as tf
    >>> from tf_savae.networks import ConditionalEncoder, ResNetEncoder
    >>> encoder = ConditionalEncoder(ResNetEncoder(latent_dim=2, channels=(4, 4)), num_labels=3)
    >>> x = {"image": tf.zeros([5, 8, 8, 1]), "label": tf.zeros([5], tf.int32)}
    >>> encoder(x).mean.shape
    TensorShape([5, 2])
  """

  def __init__(
    self,
    encoder: keras.layers.Layer,
    num_labels: int,
    *,
    observed: str | int = IMAGE,
    given: str | int = LABEL,
    **kwargs: Any,
  ):
    super().__init__(dtype=precision.default(kwargs.pop("dtype", encoder.dtype_policy)), **kwargs)
    if num_labels < 1:
      raise UserError(
        f"num_labels must be 1 or more, received {num_labels}: a model without labels needs no wrapper"
      )
    self.encoder, self.num_labels = encoder, num_labels
    self.observed, self.given = observed, given

  def call(self, x: Any, training: bool = False) -> Any:
    """Images `[batch, height, width, channels]` and labels `[batch]` to λ_0."""
    image, label = part(x, self.observed), part(x, self.given)
    planes = tf.one_hot(tf.cast(label, tf.int32), self.num_labels, dtype=image.dtype)[
      :, tf.newaxis, tf.newaxis
    ]
    places = tf.concat([tf.shape(image)[:-1], [self.num_labels]], axis=0)
    both = tf.concat([image, tf.broadcast_to(planes, places)], axis=-1)
    both = tf.ensure_shape(both, [*image.shape[:-1], image.shape[-1] + self.num_labels])
    return self.encoder(both, training=training)

  def build(self, input_shape: Any = None) -> None:
    """The encoder is built when it first sees images."""
    self.built = True

  def get_config(self):
    return {
      **super().get_config(),
      "encoder": keras.saving.serialize_keras_object(self.encoder),
      "num_labels": self.num_labels,
      "observed": self.observed,
      "given": self.given,
    }

  @classmethod
  def from_config(cls, config):
    return cls(**_with_layer(config, "encoder"))


def _with_layer(config, name):
  config = dict(config)
  if isinstance(config[name], dict):
    config[name] = keras.saving.deserialize_keras_object(config[name])
  return config
