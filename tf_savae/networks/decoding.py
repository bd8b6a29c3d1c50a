"""Documents from a decoder that gives one token at a time: greedy decoding, sampling and beam search.

All loops run over the decoder's `next` inside a graph and end when every document has ended. PAD and START are never
produced: a document is words and one END, which is put there at the latest as token number `max_length`.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from tf_savae.networks.checks import check, latent_rows
from tf_savae.networks.noise import gumbel
from tf_savae.tokens import END, PAD, START, UNKNOWN, transposed


class Stepwise(Protocol):
  """The decoder that decoding needs, with one token at a time; see `tf_savae.networks.sequence.SequenceDecoder`."""

  latent_dim: int
  vocab_size: int
  max_length: int
  variable_dtype: str

  def start(self, z: tf.Tensor | None, num: int | tf.Tensor) -> Any:
    """The state before the first token."""

  def next(self, token: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
    """Logits of the token after `token`, `[num, vocab]`, and the new state."""


def generate(
  decoder: Stepwise,
  z: Any,
  num: int | tf.Tensor | None = None,
  seed: Any = None,
  temperature: float = 1.0,
  top_p: float = 1.0,
  max_length: int | None = None,
  allow_unknown: bool = True,
) -> tf.Tensor:
  """Documents x given z, word after word: greedily, or drawn with a temperature from the nucleus.

  The nucleus is the smallest set of most probable tokens with a probability of `top_p` or more, and those that are as
  probable as its last (Holtzman et al. 2020). A row's draw is a function of (seed, row number, place in the document).

  Args:
    decoder: p_θ(x | z).
    z: `[batch, latent]`, one document per row; None if latent_dim is 0.
    num: number of documents, where z is None.
    seed: stateless seed, `[2]` int32; None takes the most probable token each time.
    temperature: logits are divided by it before drawing; above 0.
    top_p: in (0, 1].
    max_length: most tokens of a document, END included; default: the decoder's.
    allow_unknown: whether UNKNOWN may be produced, as the model would.

  Returns:
    Tokens `[batch, length]` int32, each row words, END, PAD; `length` is that of the longest.

  Raises:
    UserError: a setting out of its range; z and num do not fit the decoder.
  """
  check_temperature(temperature)
  check_top_p(top_p)
  z, num = latent_rows(z, num, decoder.latent_dim, decoder.variable_dtype)
  if seed is not None:
    seed = tf.convert_to_tensor(seed, tf.int32)
  temperature = tf.constant(temperature, decoder.variable_dtype)
  top_p = None if top_p == 1 else tf.constant(top_p, decoder.variable_dtype)
  length, forbidden = _length(decoder, max_length), _forbidden(allow_unknown)
  documents = _graph(decoder, _every_document)
  return documents(decoder, z, num, seed, temperature, top_p, length, forbidden, False)[0]


def greedy_probabilities(decoder: Stepwise, z: Any, num: int | tf.Tensor = 1) -> tf.Tensor:
  """p_θ(x_t | x_<t, z) `[batch, length, vocab]` where x_<t is the greedy document; PAD is certain after its END.

  Args:
    decoder: p_θ(x | z).
    z: `[batch, latent]`; None where latent_dim is 0.
    num: number of documents, where z is None.
  """
  z, num = latent_rows(z, num, decoder.latent_dim, decoder.variable_dtype)
  documents = _graph(decoder, _every_document)
  tokens, logits = documents(decoder, z, num, None, None, None, decoder.max_length, _forbidden(True), True)
  padding = tf.one_hot(PAD, decoder.vocab_size, dtype=logits.dtype)
  return tf.where((tokens == PAD)[..., tf.newaxis], padding, tf.nn.softmax(logits))


def beam_search(
  decoder: Stepwise,
  z: Any,
  num_beams: int,
  length_penalty: float = 0.0,
  max_length: int | None = None,
  allow_unknown: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
  """The best documents x given z, found by a search that keeps `num_beams` of them at every step.

  They are ranked by log p_θ(x | z) / ((5 + |x|) / 6)^length_penalty, |x| counting END (Wu et al. 2016, without their
  coverage). A document that has ended keeps its score and competes with those that go on. One beam is greedy.

  Args:
    decoder: p_θ(x | z).
    z: `[batch, latent]`; None if latent_dim is 0, which gives a batch of one.
    num_beams: 1 or more.
    length_penalty: 0: by probability alone; the larger, the longer the documents. 0 or more.
    max_length: most tokens of a document, END included; default: the decoder's.
    allow_unknown: whether UNKNOWN may be produced, as the model would.

  Returns:
    Tokens `[batch, num_beams, length]` int32, best first, and the decoder's log p_θ(x | z) of them in nats
    `[batch, num_beams]`. Where there are fewer documents than beams, the rest is PAD with −∞.

  Raises:
    UserError: a setting out of its range; z does not fit the decoder.
  """
  check_num_beams(num_beams)
  check_length_penalty(length_penalty)
  z, num = latent_rows(z, 1, decoder.latent_dim, decoder.variable_dtype)
  penalty = tf.constant(length_penalty, decoder.variable_dtype)
  length, forbidden = _length(decoder, max_length), _forbidden(allow_unknown)
  return _graph(decoder, _every_beam)(decoder, z, num, num_beams, penalty, length, forbidden)


def check_temperature(value: float) -> None:
  """Raises UserError unless it is a temperature."""
  check(_is_number(value) and value > 0, "temperature must be above 0", value, "1 is the model's own")


def check_top_p(value: float) -> None:
  """Raises UserError unless it is the probability of a nucleus."""
  check(_is_number(value) and 0 < value <= 1, "top_p must be above 0 and at most 1", value, "1 is all words")


def check_num_beams(value: int) -> None:
  """Raises UserError unless it is a number of beams."""
  valid = isinstance(value, int) and not isinstance(value, bool) and value >= 1
  check(valid, "num_beams must be a whole number, 1 or more", value, "5 is usual, 1 is greedy")


def check_length_penalty(value: float) -> None:
  """Raises UserError unless it is the exponent of a length penalty."""
  check(_is_number(value) and value >= 0, "length_penalty must be 0 or more", value, "0 is none, 1 is strong")


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _length(decoder: Stepwise, max_length: int | None) -> int:
  length = decoder.max_length if max_length is None else max_length
  check(length >= 1, "max_length must be 1 or more", length, "an empty document is one token, its END")
  return length


def _forbidden(allow_unknown: bool) -> tuple[int, ...]:
  return (PAD, START) if allow_unknown else (PAD, START, UNKNOWN)


def _every_document(decoder, z, num, seed, temperature, top_p, max_length, forbidden, with_logits):
  """Tokens `[num, length]`, and their logits `[num, length, vocab]` or None."""
  dtype = tf.as_dtype(decoder.variable_dtype)

  def choose(logits, t):
    scores = _without(logits, forbidden)
    if seed is not None:
      scores = (scores - tf.reduce_max(scores, axis=-1, keepdims=True)) / temperature
      if top_p is not None:
        scores = _nucleus(scores, top_p)
      scores += gumbel(tf.shape(scores), tf.random.experimental.stateless_fold_in(seed, t), dtype)
    token = tf.argmax(scores, axis=-1, output_type=tf.int32)
    return tf.where(t == max_length - 1, END, token)

  def one(t, token, ended, state, tokens, all_logits):
    logits, state = _next(decoder, token, state)
    token = tf.where(ended, PAD, choose(logits, t))
    if with_logits:
      all_logits = all_logits.write(t, logits)
    return t + 1, token, ended | (token == END), state, tokens.write(t, token), all_logits

  start = tf.fill([num], START)
  state = decoder.start(z, num)
  arrays = [tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[None])]
  arrays.append(tf.TensorArray(dtype, 0, dynamic_size=True, element_shape=[None, decoder.vocab_size]))
  rows = tf.TensorShape([None])
  _, _, _, _, tokens, all_logits = tf.while_loop(
    lambda t, token, ended, *_: ~tf.reduce_all(ended),
    one,
    (tf.constant(0), start, tf.zeros_like(start, tf.bool), state, *arrays),
    shape_invariants=(tf.TensorShape([]), rows, rows, _invariants(state), *([tf.TensorShape(None)] * 2)),
    maximum_iterations=max_length,
  )
  logits = tf.transpose(all_logits.stack(), [1, 0, 2]) if with_logits else None
  return transposed(tokens.stack()), logits


def _every_beam(decoder, z, num, beams, penalty, max_length, forbidden):
  """See `beam_search`."""
  dtype, vocab = tf.as_dtype(decoder.variable_dtype), decoder.vocab_size
  never = tf.constant(-math.inf, dtype)
  certain_end, certain_padding = (
    tf.where(tf.range(vocab) == token, tf.zeros([], dtype), never) for token in (END, PAD)
  )

  def score(log_prob, length):
    return log_prob / ((5 + tf.cast(length, dtype)) / 6) ** penalty

  def one(t, token, ended, log_prob, lengths, tokens, state):
    logits, state = _next(decoder, tf.reshape(token, [-1]), state)
    steps = tf.reshape(_without(tf.nn.log_softmax(logits), forbidden), [num, beams, vocab])
    steps = tf.where(t == max_length - 1, steps + certain_end, steps)
    # An ended document has one continuation, itself.
    steps = tf.where(ended[..., tf.newaxis], certain_padding, steps)
    totals = log_prob[..., tf.newaxis] + steps  # [num, beams, vocab]
    lengths = tf.where(ended, lengths, t + 1)
    ranking = tf.reshape(score(totals, lengths[..., tf.newaxis]), [num, beams * vocab])
    best = tf.math.top_k(ranking, beams).indices
    parent, token = best // vocab, best % vocab
    log_prob = tf.gather(tf.reshape(totals, [num, beams * vocab]), best, batch_dims=1)
    ended, lengths, tokens = (tf.gather(x, parent, batch_dims=1) for x in (ended, lengths, tokens))
    tokens = tf.where(tf.range(max_length) == t, token[..., tf.newaxis], tokens)
    rows = tf.reshape(tf.range(num)[:, tf.newaxis] * beams + parent, [-1])
    state = _like(tf.nest.map_structure(lambda x: tf.gather(x, rows), state), state)
    ended |= (token == END) | (log_prob == never)
    return t + 1, token, ended, log_prob, lengths, tokens, state

  shape = [num, beams]
  # All beams begin with the same empty document: only the first counts.
  first = tf.broadcast_to(tf.range(beams) == 0, shape)
  state = decoder.start(None if z is None else tf.repeat(z, beams, axis=0), num * beams)
  every = tf.TensorShape([None, beams])
  t, _, _, log_prob, _, tokens, _ = tf.while_loop(
    lambda t, token, ended, *_: ~tf.reduce_all(ended),
    one,
    (
      tf.constant(0),
      tf.fill(shape, START),
      ~first,
      tf.where(first, tf.zeros([], dtype), never),
      tf.zeros(shape, tf.int32),
      tf.fill([*shape, max_length], PAD),
      state,
    ),
    shape_invariants=(
      tf.TensorShape([]),
      *([every] * 4),
      tf.TensorShape([None, beams, max_length]),
      _invariants(state),
    ),
    maximum_iterations=max_length,
  )
  return tf.where((log_prob == never)[..., tf.newaxis], PAD, tokens[..., :t]), log_prob


# Each decoder has its own functions, freed with it: one for all would be traced again for each, which TensorFlow takes
# for a mistake and warns of.
_GRAPHS: weakref.WeakKeyDictionary[Stepwise, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _graph(decoder: Stepwise, function: Callable[..., Any]) -> Callable[..., Any]:
  """The decoder's own tf.function, traced once for each choice of settings that change the graph."""
  graphs = _GRAPHS.setdefault(decoder, {})
  if function not in graphs:
    own = functools.partial(
      function
    )  # TensorFlow counts the traces of a plain function by its code, for all decoders
    graphs[function] = tf.function(own, autograph=False, reduce_retracing=True)
  return graphs[function]


def _next(decoder, token, state):
  logits, new = decoder.next(token, state)
  return logits, _like(new, state)


def _invariants(state: Any) -> Any:
  """The shapes of a state whose number of rows is not known to the graph."""
  return tf.nest.map_structure(lambda x: tf.TensorShape([None, *x.shape[1:]]), state)


def _like(new: Any, old: Any) -> Any:
  """`new` with what is known of the shapes of `old`, rows aside; a loop asks for it."""
  return tf.nest.map_structure(lambda n, o: tf.ensure_shape(n, [None, *o.shape[1:]]), new, old)


def _without(scores: tf.Tensor, forbidden: tuple[int, ...]) -> tf.Tensor:
  """Scores `[..., vocab]`, −∞ for the forbidden tokens."""
  ids = tf.range(tf.shape(scores)[-1])
  never = tf.reduce_any(ids == tf.constant(forbidden)[:, tf.newaxis], axis=0)
  return tf.where(never, tf.constant(-math.inf, scores.dtype), scores)


def _nucleus(logits: tf.Tensor, top_p: tf.Tensor) -> tf.Tensor:
  """Logits `[num, vocab]`, −∞ outside the nucleus."""
  falling = tf.sort(logits, direction="DESCENDING")
  before = tf.cumsum(tf.nn.softmax(falling), axis=-1, exclusive=True)
  infinity = tf.constant(math.inf, logits.dtype)
  least = tf.reduce_min(tf.where(before < top_p, falling, infinity), axis=-1, keepdims=True)
  return tf.where(logits < least, -infinity, logits)
