"""Kinds of data: the interface for everything that differs between them, and the registry of kinds.

A data set names the kind of its examples (`DataSet.kind`). Training, evaluation, generation and serving ask the object
with this name in `KINDS`, and nothing else in the package compares kinds. A new kind is one class.

Every layer may import this module. It therefore does not import TensorFlow, and docstrings name the types of higher
layers instead of annotations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_savae.registry import Registry

__all__ = ["KINDS", "Kind"]


class Kind:
  """A kind of data. The defaults of all methods are right for plain arrays.

  Attributes:
    examples: the word for its examples, in the plural.
    has_one_shape: whether all examples have one shape. If not, XLA is not used, since it would compile a program for
      each shape.
    writes: whether samples are text that `generate` can write, from a `tf_savae.networks.sequence.SequenceDecoder`.

  Example:
    >>> from tf_savae.kind import KINDS
    >>> KINDS.get("text").examples
    'documents'
  """

  examples = "examples"
  has_one_shape = True
  writes = False

  # What a run keeps of its data.

  def facts(self, data: Any) -> dict[str, Any]:
    """Facts about a data set, besides its sizes, that may not change during a run, as JSON values by name."""
    return {}

  def keep(self, data: Any, run: Any) -> None:
    """Stores in the `RunDirectory` whatever is needed to interpret the weights, such as a vocabulary.

    It is called whenever the data have been loaded for training or evaluation.
    """

  def kept(self, run: Any) -> dict[str, Any]:
    """What `keep` stored in the `RunDirectory`, as further arguments of the data set's `load`."""
    return {}

  def outline(self, config: Any, run: Any) -> Any:
    """A `DataSet` made from the run directory alone, from which networks can be built as in training.

    Args:
      config: the `RunConfig` of the run.
      run: its `RunDirectory`.

    Returns:
      The data set, which may have no examples; None: the run's own data have to be loaded.
    """
    return None

  def from_file(self, path: str, config: Any, run: Any) -> Any:
    """A `DataSet` whose split "test" is a user's file, for `--eval_file`.

    Raises:
      NotImplementedError: this kind has no such files.
    """
    raise NotImplementedError

  # Training and evaluation.

  def xla_pays_from(self, on_gpu: bool) -> float:
    """The number of updates above which compiling the step with XLA saves time; infinity: never."""
    return math.inf

  def dimensions(self, data: Any) -> int | None:
    """Numbers in an observation whose probability is reported in bits per dimension, too; None: it is not."""
    return None

  def lengths(self, x: Any) -> Any:
    """Tokens per example of x `[batch, ...]`, `[batch]`, by which perplexity divides; None: there is no perplexity."""
    return None

  def mean_length(self, data: Any, split: str) -> float | None:
    """Mean of `lengths` over a split of a data set."""
    return None

  def results(self, config: Any) -> dict[str, Any]:
    """Further entries of results.json for a run with this `RunConfig`, such as the name of its decoder."""
    return {}

  # Pictures and other output.

  def save_pictures(self, model: Any, data: Any, directory: Path) -> None:
    """Writes pictures of a run's model to its directory when the model is evaluated."""

  def pictures(self, model: Any, x: Any, posteriors: Any, note: str) -> Iterable[tuple[str, Any]]:
    """Pictures for TensorBoard.

    Args:
      model: the model.
      x: examples `[n, ...]`.
      posteriors: their `Posteriors`; None without a latent.
      note: is added to titles, such as " (stand-in data)".

    Returns:
      The tag and the Matplotlib figure of each picture.
    """
    return ()

  def sample_figure(self, x: Any, title: str) -> Any:
    """A Matplotlib figure of samples x `[n, ...]` for `generate`; None: they cannot be drawn."""
    return None

  def row_figure(self, rows: Mapping[str, Any], title: str) -> Any:
    """A Matplotlib figure of labelled rows of examples for `generate`; None: they cannot be drawn."""
    return None

  def write_samples(self, model: Any, data: Any, x: Any, posteriors: Any, writer: Any, step: int) -> None:
    """Logs what the model makes of examples, if it is no picture, for TensorBoard.

    Args:
      model: the model.
      data: the data set.
      x: examples of it `[n, ...]`.
      posteriors: their `Posteriors`; None without a latent.
      writer: a `tf.summary.SummaryWriter`.
      step: step at which TensorBoard shows it.
    """

  def projector_columns(self, x: Any, data: Any) -> Mapping[str, Sequence[object]]:
    """Known properties of each example of x `[n, ...]` for TensorBoard's projector: name → n values."""
    return {}

  def sprites(self, x: Any) -> Any:
    """Images `[n, height, width, channels]` in [0, 1] that represent examples in the projector; None: points do."""
    return None

  # Serving.

  def payloads(self, trained: Any, seed: int) -> Any:
    """The form in which clients send and receive observations, a `tf_savae.serving.payloads.Payloads`.

    Args:
      trained: the `Restored` model and its settings.
      seed: seed of whatever is drawn at export, such as the thresholds of a binarisation.

    Raises:
      NotImplementedError: this kind cannot be served.
    """
    raise NotImplementedError


#: Kinds of data by name, such as "image".
KINDS: Registry[Kind] = Registry(
  "kind of data",
  {
    "image": "tf_savae.kinds.image:KIND",
    "text": "tf_savae.kinds.text:KIND",
    "tokens": "tf_savae.kinds.tokens:KIND",
  },
)
