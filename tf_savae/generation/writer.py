"""`Writer`: turns latents into words with a trained model of text and its vocabulary."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError
from tf_savae.evaluation.posteriors import Inference, Posteriors
from tf_savae.model import SAVAE
from tf_savae.networks import decoding
from tf_savae.networks.sequence import SequenceDecoder
from tf_savae.posterior import Params
from tf_savae.seeds import Purpose, stateless_seed

_ROWS = 16  # documents decoded at a time, so that memory does not grow with their number


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How words are chosen; see `tf_savae.networks.decoding`."""

  temperature: float = 1.0
  top_p: float = 1.0
  num_beams: int = 5
  length_penalty: float = 0.0
  allow_unknown: bool = True
  seed: int = 0


class Versions(NamedTuple):
  """The documents decoded from one z.

  Attributes:
    greedy: the document of the most probable word at each position.
    sampled: a document drawn from p(x | z).
    beams: documents found by beam search, best first, with log p(x | z) in nats.
  """

  greedy: str
  sampled: str
  beams: list[tuple[str, float]]


class Writer:
  """Writes documents with a model's current weights. All draws are functions of (model seed, seed, row).

  Args:
    model: a model whose decoder is a `SequenceDecoder`.
    vocabulary: the words that its ids stand for.
    decoding: how words are chosen.

  Raises:
    UserError: the decoder cannot generate documents.
  """

  def __init__(self, model: SAVAE, vocabulary: Vocabulary, decoding: Decoding | None = None):
    if not isinstance(model.decoder, SequenceDecoder):
      raise UserError(
        f"only a decoder that gives one token at a time can write; received {type(model.decoder).__name__}"
      )
    self.model, self.vocabulary, self.decoding = model, vocabulary, decoding or Decoding()
    any_length = tf.TensorSpec([None, None], tf.int32)
    self._infer = Inference(model, any_length) if model.latent_dim else None

  def prior_samples(self, num: int) -> list[str]:
    """`num` documents x ~ p(x | z), z ~ p(z), drawn with temperature and nucleus."""
    noise = self._noise(num, Purpose.PRIOR) if self.model.latent_dim else None
    return self._sampled(noise, num, part=0)

  def posteriors(self, x: np.ndarray) -> Posteriors:
    """λ_0, λ_K and their bounds for documents x `[n, length]`; the model must have a latent."""
    return self._infer(x, batch_size=_ROWS)

  def draw(self, params: Params) -> tf.Tensor:
    """z ~ q_λ, `[n, latent]`."""
    params = tf.nest.map_structure(tf.convert_to_tensor, params)
    return self.model.family.sample(params, self._noise(params.mean.shape[0], Purpose.POSTERIOR))

  def versions(self, z: tf.Tensor) -> list[Versions]:
    """Each z `[n, latent]` decoded in three ways; every call uses the same noise for its samples."""
    rows = zip(self.greedy(z), self._sampled(z, len(z), part=1), self.beams(z), strict=True)
    return [Versions(*row) for row in rows]

  def greedy(self, z: tf.Tensor) -> list[str]:
    """The greedy documents of z `[n, latent]`."""
    unknown = self.decoding.allow_unknown
    parts = (
      decoding.generate(self.model.decoder, z[i : i + _ROWS], allow_unknown=unknown) for i in _starts(z)
    )
    return [text for tokens in parts for text in self._texts(tokens)]

  def beams(self, z: tf.Tensor) -> list[list[tuple[str, float]]]:
    """The results of beam search for each z `[n, latent]`, best first, with log p(x | z) in nats."""
    how, found = self.decoding, []
    for i in _starts(z):
      tokens, log_prob = decoding.beam_search(
        self.model.decoder,
        z[i : i + _ROWS],
        how.num_beams,
        how.length_penalty,
        allow_unknown=how.allow_unknown,
      )
      for beams, scores in zip(tokens, log_prob.numpy(), strict=True):
        pairs = zip(self._texts(beams), scores.tolist(), strict=True)
        found.append([pair for pair in pairs if np.isfinite(pair[1])])
    return found

  def _sampled(self, z, num, part):
    seed = stateless_seed(self.model.seed, self.decoding.seed, Purpose.GENERATE)
    seed = tf.random.experimental.stateless_fold_in(seed, part)
    texts = []
    for i in range(0, num, _ROWS):
      tokens = decoding.generate(
        self.model.decoder,
        None if z is None else z[i : i + _ROWS],
        min(_ROWS, num - i),
        tf.random.experimental.stateless_fold_in(seed, i),
        self.decoding.temperature,
        self.decoding.top_p,
        allow_unknown=self.decoding.allow_unknown,
      )
      texts += self._texts(tokens)
    return texts

  def _noise(self, num, purpose):
    seed = stateless_seed(self.model.seed, self.decoding.seed, purpose)
    return tf.random.stateless_normal([num, self.model.latent_dim], seed, dtype=self.model.variable_dtype)

  def _texts(self, tokens) -> list[str]:
    return [self.vocabulary.decode(row) for row in np.asarray(tokens)]


def line(start: np.ndarray, end: np.ndarray, points: int) -> tf.Tensor:
  """`points` equidistant latents from `start` to `end`, each `[latent]`, as `[points, latent]`."""
  share = np.linspace(0, 1, points, dtype=start.dtype)[:, np.newaxis]
  return tf.constant((1 - share) * start + share * end)


def _starts(z) -> range:
  return range(0, len(z), _ROWS)
