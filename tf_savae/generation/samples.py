"""A few texts of a run while it trains, for TensorBoard."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_savae.data.text import TextDataSet
from tf_savae.evaluation.latents import most_active, traversal
from tf_savae.evaluation.posteriors import Posteriors
from tf_savae.generation import report, sections
from tf_savae.generation.sentences import Reader
from tf_savae.generation.writer import Decoding, Writer
from tf_savae.model import SAVAE
from tf_savae.networks.sequence import SequenceDecoder

_DOCUMENTS = 5
_LATENTS, _VALUES = 2, (-3, -2, -1, 0, 1, 2, 3)


def write_samples(
  model: SAVAE,
  data: TextDataSet,
  x: np.ndarray,
  posteriors: Posteriors | None,
  writer: tf.summary.SummaryWriter,
  step: int,
) -> None:
  """Logs samples from the prior and, with a latent, reconstructions and walks along the most active latents.

  Args:
    model: the model; nothing is logged if its decoder is not a `SequenceDecoder`.
    data: the data that it was trained on.
    x: documents `[n, length]`, of which some evenly spaced ones are reconstructed.
    posteriors: their posteriors; None without a latent.
    writer: writer of the logs, which get "texts/samples", "texts/reconstructions" and "texts/latent_traversals".
    step: step at which TensorBoard shows the texts.
  """
  if not isinstance(model.decoder, SequenceDecoder):
    return
  author = Writer(model, data.vocabulary, Decoding(num_beams=1))
  texts = {"samples": report.numbered(author.prior_samples(_DOCUMENTS))}
  if posteriors is not None:
    rows = np.unique(np.linspace(0, len(x) - 1, _DOCUMENTS).round().astype(int))
    given, means = Reader(data.vocabulary, data.max_length).of_rows(x[rows]), posteriors.centers
    texts["reconstructions"] = sections.reconstructions(author, given, means[rows])
    known = Writer(model, data.vocabulary, Decoding(num_beams=1, allow_unknown=False))
    texts["latent_traversals"] = _traversals(known, means, rows[len(rows) // 2])
  with writer.as_default(step=step):
    for name, text in texts.items():
      tf.summary.text(f"texts/{name}", f"{text}\n\n{data.source}")


def _traversals(author: Writer, means: np.ndarray, row: int) -> str:
  """Greedy documents as one latent takes several values while the others stay as in example `row`.

  They are of known words: of a model that has not learned much, all else would be the unknown word alone.
  """
  latents = most_active(means, _LATENTS)
  z = np.concatenate([traversal(means[row], latent, _VALUES) for latent in latents])
  found = iter(author.greedy(tf.constant(z)))
  blocks = [report.block([(f"z_{latent} = {value}", next(found)) for value in _VALUES]) for latent in latents]
  return "\n\n".join(blocks)
