"""A few texts of a run that has just ended, for TensorBoard."""

from __future__ import annotations

import tensorflow as tf

from tf_savae.data.text import TextDataSet
from tf_savae.generation import report, sections
from tf_savae.generation.sentences import Reader
from tf_savae.generation.writer import Decoding, Writer
from tf_savae.model import SAVAE
from tf_savae.networks.sequence import SequenceDecoder

_DOCUMENTS = 5


def write_samples(model: SAVAE, data: TextDataSet, writer: tf.summary.SummaryWriter, step: int) -> None:
  """Logs samples from the prior and, with a latent, reconstructions of the first validation documents.

  Args:
    model: the model; nothing is logged if its decoder is not a `SequenceDecoder`.
    data: the data that it was trained on.
    writer: writer of the logs, which get "texts/samples" and "texts/reconstructions".
    step: step at which TensorBoard shows the texts.
  """
  if not isinstance(model.decoder, SequenceDecoder):
    return
  author = Writer(model, data.vocabulary, Decoding(num_beams=1))
  texts = {"samples": report.numbered(author.prior_samples(_DOCUMENTS))}
  if model.latent_dim:
    rows = data.examples("valid", _DOCUMENTS)
    given = Reader(data.vocabulary, data.max_length).of_rows(rows)
    texts["reconstructions"] = sections.reconstructions(author, given)
  with writer.as_default(step=step):
    for name, text in texts.items():
      tf.summary.text(f"texts/{name}", f"{text}\n\n{data.source}")
