"""Encoders and decoders by name. A new one is a file, and a line here or a call of `register`.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tf_savae.registry import Registry, resolve


@dataclasses.dataclass(frozen=True)
class Network:
  """How a run makes an encoder or a decoder.

  Attributes:
    maker: function of the data set, the size of z, `settings`, `seed` and `dtype`; or its "module:function", imported
      when it is first called. It returns a Keras layer.
    settings: names of the run settings that it takes, such as "hidden_dim".
    label: what a table of results adds to the name of a method with this decoder; nothing for the usual one.
    method_labels: names that a method has with this decoder, where the paper's tables have one for both.

  Example:
    >>> from tf_savae.networks import ENCODERS
    >>> ENCODERS.names("image")[0]  # what `auto` means for images
    'resnet'
  """

  maker: Callable[..., Any] | str
  settings: tuple[str, ...] = ()
  label: str = ""
  method_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def build(self, data: Any, latent_dim: int, *, seed: int, dtype: str, **settings: Any) -> Any:
    """The network for the examples of `data`.

    Args:
      data: a `tf_savae.data.DataSet`: what it says of its examples, such as their shape, decides sizes.
      latent_dim: size of z.
      seed: of the initial weights.
      dtype: Keras's policy, such as "float32".
      **settings: a value for each name in `settings`.
    """
    return resolve(self.maker)(data, latent_dim, seed=seed, dtype=dtype, **settings)


class Catalogue:
  """Networks of one role, by name and kind of data. For each kind the first is the one that `auto` means."""

  def __init__(self, role: str):
    self._role = role
    self._of_kind: dict[str, Registry[Network]] = {}

  def register(self, name: str, network: Network, kinds: Sequence[str]) -> None:
    """Adds a network for some kinds of data.

    Raises:
      ValueError: one of the kinds has another network of that name.
    """
    for kind in kinds:
      self._of_kind.setdefault(kind, Registry(f"{self._role} of {kind}")).register(name, network)

  def names(self, kind: str | None = None) -> tuple[str, ...]:
    """The names for a kind of data; None: all names, each once."""
    if kind is not None:
      return self._of_kind[kind].names() if kind in self._of_kind else ()
    return tuple(dict.fromkeys(name for registry in self._of_kind.values() for name in registry))

  def __iter__(self) -> Iterator[str]:
    return iter(self.names())

  def get(self, name: str, kind: str) -> Network:
    """The network of a name, or the first if it is "auto", for a kind of data.

    Raises:
      ValueError: there is none.
    """
    if kind not in self._of_kind:
      raise ValueError(f"There is no {self._role} for this kind of data; register one. Received: {kind!r}")
    return self._of_kind[kind].get(self.resolve(name, kind))

  def find(self, name: str | None) -> Network | None:
    """A network of that name for any kind; None: there is none."""
    if name is None:
      return None
    return next((registry.get(name) for registry in self._of_kind.values() if name in registry), None)

  def resolve(self, name: str, kind: str) -> str:
    """The name, with "auto" replaced by the first that there is for the kind."""
    return next(iter(self.names(kind)), name) if name == "auto" else name


#: Encoders and decoders by name and kind of data: what `--encoder` and `--decoder` accept.
ENCODERS, DECODERS = Catalogue("encoder"), Catalogue("decoder")


def register(
  name: str,
  *,
  kinds: Sequence[str],
  encoder: Callable[..., Any] | str | None = None,
  decoder: Callable[..., Any] | str | None = None,
  settings: Sequence[str] = (),
) -> None:
  """Makes an encoder or a decoder available as `--encoder=name` or `--decoder=name`.

  Args:
    name: its name for the flag.
    kinds: the kinds of data that it is for, such as "image".
    encoder, decoder: one of them, a `Network.maker`.
    settings: names of the run settings that the maker takes.

  Raises:
    ValueError: both or none of them, or a name that one of the kinds has already.

  Example:
    >>> from tf_savae import networks
    >>> def pixels(data, latent_dim, seed, dtype):
    ...   return networks.GatedPixelCNN(latent_dim, 8, (3,), image_shape=data.image_shape, seed=seed, dtype=dtype)
    >>> networks.register("one_layer", kinds=["image"], decoder=pixels)
    >>> "one_layer" in networks.DECODERS.names("image")
    True
  """
  if encoder is not None and decoder is None:
    ENCODERS.register(name, Network(encoder, tuple(settings)), kinds)
  elif decoder is not None and encoder is None:
    DECODERS.register(name, Network(decoder, tuple(settings)), kinds)
  else:
    raise ValueError(f"Register either an encoder or a decoder. Received: {encoder!r} and {decoder!r}")


_LSTM = ("embedding_dim", "hidden_dim", "init_scale")
_TEXT = (
  "embedding_dim",
  "init_scale",
  "dropout",
  "word_dropout",
  "logit_positions",
  "latent_to",
  "latent_l2",
)
_PIXELCNN = ("decoder_channels", "decoder_kernels", "position_maps", "dropout")
_DILATED = Network(
  "tf_savae.networks.late_softmax:dilated_conv_for",
  (*_TEXT, "conv_channels", "dilations"),
  label="dilated convolutions",
  method_labels={"vae": "ConvNetVAE"},
)

ENCODERS.register("resnet", Network("tf_savae.networks.resnet:for_data", ("encoder_channels",)), ["image"])
ENCODERS.register("lstm", Network("tf_savae.networks.lstm:encoder_for", _LSTM), ["tokens"])
ENCODERS.register("lstm", Network("tf_savae.networks.text_lstm:encoder_for", _LSTM), ["text"])
ENCODERS.register("bow", Network("tf_savae.networks.bag_of_words:encoder_for", _LSTM), ["text"])
_LIKELIHOOD = ("likelihood", "likelihood_scale", "mixture_components")
_GATED = Network("tf_savae.networks.pixelcnn:for_data", (*_PIXELCNN, "latent_maps", *_LIKELIHOOD))
DECODERS.register("pixelcnn", _GATED, ["image"])
_LATE = Network("tf_savae.networks.late_pixelcnn:for_data", (*_PIXELCNN, "quadrature_nodes"), label="z late")
DECODERS.register("late_pixelcnn", _LATE, ["image"])
_ANY_LIKELIHOOD = ("dropout", *_LIKELIHOOD)
_CONV = Network(
  "tf_savae.networks.conv:for_data", ("decoder_channels", *_ANY_LIKELIHOOD), label="convolutions"
)
_MLP = Network("tf_savae.networks.mlp:for_data", ("mlp_units", *_ANY_LIKELIHOOD), label="dense layers")
DECODERS.register("conv", _CONV, ["image"])
DECODERS.register("mlp", _MLP, ["image"])
DECODERS.register(
  "lstm", Network("tf_savae.networks.late_softmax:lstm_for", (*_TEXT, "hidden_dim")), ["text"]
)
DECODERS.register("dilated_conv", _DILATED, ["text"])
DECODERS.register(
  "lstm",
  Network("tf_savae.networks.oracle_decoder:decoder_for", (*_LSTM, "dropout", "oracle", "generator")),
  ["tokens"],
)
