"""Data sets by name. A new one is a file with a `load` function, and a line in `DATASETS` or a call of `register`.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_savae.errors import UserError
from tf_savae.registry import Registry, resolve

Presets = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a data set comes from.

  Attributes:
    loader: function of `data_dir`, `seed`, `download` and `strict` as `load` below has them, and of `settings`; or its
      "module:function", imported when it is first called. It returns a `DataSet`.
    kind: of its examples, a name in `tf_savae.kind.KINDS`.
    settings: names of the run settings that it takes, such as "max_length".
    earlier: of settings whose default is None, what runs had that began before the setting existed.
    presets: what the presets "paper", "small" and "tiny" change, besides those of the kind.

  Example:
    >>> from tf_savae.data import DATASETS
    >>> DATASETS.get("omniglot").kind
    'image'
  """

  loader: Callable[..., Any] | str
  kind: str
  settings: tuple[str, ...] = ()
  earlier: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  presets: Presets = dataclasses.field(default_factory=dict)

  def load(self, **options: Any) -> Any:
    """The data set."""
    return resolve(self.loader)(**options)


_OF_WORDS = ("vocab_size", "min_count", "max_length", "units", "text_column")
_OF_ORACLE = ("data_seed", "oracle", "train_examples")

#: Data sets by name: what `--dataset` accepts.
DATASETS: Registry[Source] = Registry("data set")
DATASETS.register(
  "omniglot",
  Source(
    "tf_savae.data.omniglot:load",
    "image",
    ("omniglot_split",),
    {"omniglot_split": "random"},
    # An update with 20 steps costs about two of a VAE, where it would cost about 15 with `pixelcnn`.
    {"small": {"decoder": "late_pixelcnn"}},
  ),
)
DATASETS.register(
  "images",
  Source("tf_savae.data.pictures:load", "image", ("image_size", "image_channels", "likelihood")),
)
_OF_KERAS = ("likelihood",)
DATASETS.register("mnist", Source("tf_savae.data.keras_sets:mnist", "image", _OF_KERAS))
DATASETS.register("fashion_mnist", Source("tf_savae.data.keras_sets:fashion_mnist", "image", _OF_KERAS))
DATASETS.register(
  "cifar10",
  Source(
    "tf_savae.data.keras_sets:cifar10",
    "image",
    _OF_KERAS,
    presets={name: {"decoder": "conv"} for name in ("paper", "small", "tiny")},  # it is in colour
  ),
)
DATASETS.register("yahoo", Source("tf_savae.data.yahoo:load", "text", _OF_WORDS))
DATASETS.register("text", Source("tf_savae.data.text:load", "text", _OF_WORDS))
DATASETS.register("synthetic", Source("tf_savae.data.synthetic:load", "tokens", _OF_ORACLE))


def register(
  name: str,
  load: Callable[..., Any] | str,
  *,
  kind: str,
  settings: Sequence[str] = (),
  presets: Presets | None = None,
) -> None:
  """Makes a data set available as `--dataset=name`. Arguments are those of `Source`.

  Raises:
    ValueError: the name belongs to another data set.

  Args:
    name: its name for `--dataset`.
    load: the function that returns a `DataSet`, as `Source.loader`.
    kind: of its examples, a name in `tf_savae.kind.KINDS`.
    settings: names of the run settings that it takes.
    presets: what the presets change.

  Example:
    >>> import numpy as np
    >>> from tf_savae import data
    >>> def noise(data_dir, seed, download, strict):
    ...   parts = np.random.default_rng(0).random([3, 10, 8, 8])
    ...   return data.images_from_arrays(*parts, source="noise", name="noise", seed=seed)
    >>> data.register("noise", noise, kind="image")
    >>> data.load("noise", data_dir="unused", seed=0).num_examples("train")
    10
  """
  DATASETS.register(name, Source(load, kind, tuple(settings), presets=presets or {}))


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str],
  seed: int,
  download: bool = True,
  strict: bool = False,
  **options: Any,
) -> Any:
  """The data set `name`, a `tf_savae.data.DataSet`.

  Args:
    name: one of `DATASETS`.
    data_dir: the folder in which its files are looked for.
    seed: the training run's seed, for order and dynamic binarisation. Splits and evaluation examples do not
      depend on it.
    download: whether missing files may be downloaded.
    strict: whether falling back to a stand-in is an error.
    **options: further arguments of the data set's own `load`.

  Raises:
    UserError: there is no data set of that name, or its files are unusable.

  Example:
    >>> from tf_savae import data
    >>> sequences = data.load("synthetic", data_dir="unused", seed=0, num_examples=4, vocab_size=5, length=3)
    >>> sequences.examples("train", 2).shape
    (2, 3)
  """
  if name not in DATASETS:
    raise UserError(f"unknown data set: expected one of {', '.join(DATASETS)}. Received: {name!r}")
  return DATASETS.get(name).load(data_dir=data_dir, seed=seed, download=download, strict=strict, **options)
