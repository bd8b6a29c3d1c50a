"""What differs by kind of data: the contract, and the kinds by name.

A data set says which kind its examples are of (`DataSet.kind`). Training, evaluation, generation and serving ask the
object that has this name in `KINDS`, and nothing else in the package compares kinds. A new kind is one class.

Nothing here imports TensorFlow, and types of higher layers are named in words: every layer may import this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_savae.registry import Registry


class Kind:
  """A kind of data. What a kind does not define has the answer that is right for plain arrays.

  Attributes:
    examples: what its examples are called, in the plural.
    has_one_shape: whether all examples have one shape. XLA compiles a program for each shape, and is not used
      otherwise.
    writes: whether samples are text that `generate` can write, from a `tf_savae.networks.sequence.SequenceDecoder`.
  """

  examples = "examples"
  has_one_shape = True
  writes = False

  # What a run keeps of its data.

  def facts(self, data: Any) -> dict[str, Any]:
    """What may not change about a data set while a run goes on, besides its sizes: JSON values by name."""
    return {}

  def keep(self, data: Any, run: Any) -> None:
    """Stores in the `RunDirectory` what the weights mean only together with, such as a vocabulary.

    Called whenever the data were loaded to train or to be evaluated.
    """

  def kept(self, run: Any) -> dict[str, Any]:
    """What `keep` stored in the `RunDirectory`, as further arguments of the data set's `load`."""
    return {}

  def outline(self, config: Any, run: Any) -> Any:
    """A `DataSet` from which networks are built as in training, known from the run directory alone.

    Args:
      config: the `RunConfig` of the run.
      run: its `RunDirectory`.

    Returns:
      The data set, which need have no examples; or None, and the run's own data are loaded for it.
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
    """The number of updates from which on compiling the step with XLA pays; infinity: never."""
    return math.inf

  def lengths(self, x: Any) -> Any:
    """Tokens of each example of x `[batch, ...]`, `[batch]`: what perplexity divides by; None: it has none."""
    return None

  def mean_length(self, data: Any, split: str) -> float | None:
    """Mean of `lengths` over a split of a data set."""
    return None

  def results(self, config: Any) -> dict[str, Any]:
    """What results.json tells besides of a run with this `RunConfig`, such as which decoder it has."""
    return {}

  # What is shown.

  def save_pictures(self, model: Any, data: Any, directory: Path) -> None:
    """Draws the model of a run into its directory when it is evaluated."""

  def pictures(self, model: Any, x: Any, posteriors: Any, note: str) -> Iterable[tuple[str, Any]]:
    """Pictures for TensorBoard.

    Args:
      model: the model.
      x: examples `[n, ...]`.
      posteriors: their `Posteriors`; None without a latent.
      note: goes to titles, such as " (stand-in data)".

    Returns:
      Tag and Matplotlib figure of each.
    """
    return ()

  def sample_figure(self, x: Any, title: str) -> Any:
    """A Matplotlib figure of samples x `[n, ...]`, for `generate`; None: they cannot be drawn."""
    return None

  def write_samples(self, model: Any, data: Any, writer: Any, step: int) -> None:
    """Shows samples that are not pictures in TensorBoard, by a `tf.summary.SummaryWriter`."""

  def projector_columns(self, x: Any, data: Any) -> Mapping[str, Sequence[object]]:
    """What is known of each example of x `[n, ...]`, for TensorBoard's projector: name → n values."""
    return {}

  def sprites(self, x: Any) -> Any:
    """Images `[n, height, width, 1]` in [0, 1] that stand for examples in the projector; None: points do."""
    return None

  # Serving.

  def payloads(self, trained: Any, seed: int) -> Any:
    """How a `Restored` model's observations look to a client, as `tf_savae.serving.payloads.Payloads`.

    Args:
      trained: the model and its settings.
      seed: of what is drawn at export, such as thresholds of a binarisation.

    Raises:
      NotImplementedError: this kind cannot be served.
    """
    raise NotImplementedError


KINDS: Registry[Kind] = Registry(
  "kind of data",
  {
    "image": "tf_savae.kinds.image:KIND",
    "text": "tf_savae.kinds.text:KIND",
    "tokens": "tf_savae.kinds.tokens:KIND",
  },
)
