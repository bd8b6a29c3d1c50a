"""The family of posteriors that an inverse autoregressive flow makes of diagonal Gaussians."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_savae.posterior import prior
from tf_savae.posteriors.family import PosteriorFamily

tfb, tfd = tfp.bijectors, tfp.distributions


@dataclasses.dataclass(frozen=True)
class InverseAutoregressiveFlow(PosteriorFamily):
  """z = f(u), u ~ N(μ, diag σ²), λ = (μ, log σ²), where f is an invertible network that all examples share.

  Each flow is z_i = (u_i − m_i(u_<i)) exp(−s_i(u_<i)) in one pass of a masked network; every second one has the latents
  in reverse order. All start as the identity, so that training starts from the diagonal Gaussian. The weights are part
  of φ and learn from L at λ_K. The KL to the prior is estimated at the draws.

  Since f is the same for all λ, a KL between two such posteriors is that of their Gaussians, in closed form. So is the
  mutual information of x and z. `mean` and `log_var` are those of u.

  Source: Kingma et al. (2016); Germain et al. (2015) for the masks.

  Attributes:
    num_flows: flows behind one another, 1 or more.
    hidden: units of the hidden layer of each, 1 or more.
    network: a `FlowNetwork`, which `SAVAE` makes.

  Raises:
    ValueError: a number is not positive.

  Example:
    >>> import dataclasses
    >>> import tensorflow as tf
    >>> from tf_savae.posteriors import InverseAutoregressiveFlow
    >>> family = InverseAutoregressiveFlow(num_flows=1, hidden=8)
    >>> family = dataclasses.replace(family, network=family.make_network(latent_dim=2))
    >>> params = family.start((tf.ones([1, 2]), tf.zeros([1, 2])))
    >>> family.center(params).numpy().tolist()  # not trained yet: z = u
    [[1.0, 1.0]]
  """

  trained = True
  kl_in_closed_form = False

  num_flows: int = 2
  hidden: int = 64
  network: Any = dataclasses.field(default=None, compare=False, repr=False, metadata={"saved": False})

  def __post_init__(self):
    for name in ("num_flows", "hidden"):
      value = getattr(self, name)
      if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number, 1 or more. Received: {value}")

  def make_network(self, latent_dim: int, seed: int = 0, dtype: Any = None) -> FlowNetwork:
    """The network for `latent_dim` latents, not yet trained.

    Args:
      latent_dim: number of latents.
      seed: of the initial weights.
      dtype: of weights and arithmetic, that of λ; default: Keras's.
    """
    network = FlowNetwork(
      latent_dim, self.num_flows, self.hidden, seed=seed, dtype=dtype, name="posterior_flow"
    )
    network.build([None, latent_dim])
    return network

  def distribution(self, params):
    return tfd.TransformedDistribution(params.distribution(), self._network().bijector())

  def sample(self, params, noise):
    return self._network()(params.sample(noise))[0]

  def draw(self, params, noise):
    u = params.sample(noise)
    z, log_det = self._network()(u)
    return z, prior(z).log_prob(z) - params.distribution().log_prob(u) + log_det

  def center(self, params):
    return self._network()(params.mean)[0]

  def entropy(self, params, noise):
    return super().entropy(params, noise) + self._network()(params.sample(noise))[1]

  def columns(self, params):
    """μ and log σ² of u, and the z of u = μ."""
    return super().columns(params) | {"z": self.center(params)}

  def texts(self, latent_dim):
    size = f"`[{latent_dim}]`"
    return {
      "mean": f"μ of the Gaussian under the flow of {{q}}, {size}",
      "log_var": f"log σ² of the Gaussian under the flow of {{q}}, {size}",
      "z": f"z of {{q}} at the mean of that Gaussian, {size}",
    }

  def _network(self) -> FlowNetwork:
    if self.network is None:
      raise ValueError(
        "The flow has no network; make one with make_network(latent_dim). Received: network=None"
      )
    return self.network


# Bound on |s| of a flow: one flow changes a latent's scale by a factor of e³ at most.
_LARGEST_LOG_SCALE = 3.0


@keras.saving.register_keras_serializable(package="tf_savae")
class FlowNetwork(keras.layers.Layer):
  """Inverse autoregressive flows: maps u `[..., latent]` to z and log |det ∂z/∂u| `[...]`.

  Args:
    latent_dim: number of latents.
    num_flows, hidden: see `InverseAutoregressiveFlow`.
    seed: of the initial weights.
  """

  def __init__(self, latent_dim: int, num_flows: int, hidden: int, *, seed: int = 0, **kwargs: Any):
    super().__init__(**kwargs)
    self.latent_dim, self.num_flows, self.hidden, self.seed = latent_dim, num_flows, hidden, seed

  def build(self, input_shape: Any = None) -> None:
    """Makes the weights; the last layer of each flow is 0."""
    weights = []
    for flow in range(self.num_flows):
      initial = keras.initializers.GlorotUniform(self.seed + flow)
      shapes = {
        "kernel": ([self.latent_dim, self.hidden], initial),
        "bias": ([self.hidden], "zeros"),
        "last_kernel": ([self.hidden, 2 * self.latent_dim], "zeros"),
        "last_bias": ([2 * self.latent_dim], "zeros"),
      }
      weights.append(
        [
          self.add_weight(name=f"{name}_{flow}", shape=shape, initializer=initializer)
          for name, (shape, initializer) in shapes.items()
        ]
      )
    self._of_flows = weights
    self.built = True

  def call(self, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    log_det = tf.zeros_like(u[..., 0])
    for flow in range(self.num_flows):
      shift, log_scale = self.shift_and_log_scale(flow, u)
      u = (u - shift) * tf.exp(-log_scale)
      log_det -= tf.reduce_sum(log_scale, axis=-1)
    return u, log_det

  def shift_and_log_scale(self, flow: int, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """m and s of one flow, each `[..., latent]`: those of a latent depend on the latents before it."""
    kernel, bias, last_kernel, last_bias = (v.value for v in self._of_flows[flow])
    into, out = (tf.constant(mask, u.dtype) for mask in masks(self.latent_dim, self.hidden, flow % 2 == 1))
    h = tf.tanh(tf.tensordot(u, into * kernel, 1) + bias)
    shift, log_scale = tf.split(tf.tensordot(h, out * last_kernel, 1) + last_bias, 2, axis=-1)
    return shift, _LARGEST_LOG_SCALE * tf.tanh(log_scale / _LARGEST_LOG_SCALE)

  def bijector(self) -> tfp.bijectors.Bijector:
    """The same map as a TFP bijector, which can also invert it, latent by latent."""

    def one(flow):
      return tfb.Invert(tfb.MaskedAutoregressiveFlow(lambda u: self.shift_and_log_scale(flow, u)))

    return tfb.Chain([one(flow) for flow in reversed(range(self.num_flows))])

  def get_config(self):
    names = ("latent_dim", "num_flows", "hidden", "seed")
    return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def masks(latent_dim: int, hidden: int, is_reversed: bool) -> tuple[np.ndarray, np.ndarray]:
  """Which weights there are: from latents to hidden units, and from those to (m, s) (Germain et al. 2015).

  Hidden unit j sees latents up to number n_j, and m and s of latent i see the units with n_j < i.
  """
  degrees = np.arange(1, latent_dim + 1)
  if is_reversed:
    degrees = degrees[::-1]
  of_hidden = np.arange(hidden) % max(latent_dim - 1, 1) + 1
  into = of_hidden[np.newaxis, :] >= degrees[:, np.newaxis]
  out = degrees[np.newaxis, :] > of_hidden[:, np.newaxis]
  return into, np.concatenate([out, out], axis=1)
