"""Standard errors are those of the bootstrap; perplexity is what its definition says."""

import numpy as np
import pytest

from tf_savae.evaluation import estimates


@pytest.fixture(scope="module")
def documents():
  """Documents of very different lengths, hard for two models alike: −log p under each, and tokens."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(5, 120, size=400)
  hard = rng.normal(4.0, 0.6, size=400) * tokens
  return hard + rng.normal(size=400) * 3, hard + rng.normal(size=400) * 3 - 0.05 * tokens, tokens


def bootstrap(statistic, *columns, times=2000):
  """Standard deviation of a statistic over documents drawn anew."""
  rng = np.random.default_rng(1)
  n = len(columns[0])
  rows = rng.integers(n, size=(times, n))
  return np.std([statistic(*(column[row] for column in columns)) for row in rows])


def test_perplexity_is_of_all_tokens_and_not_a_mean_over_documents():
  # Two documents: 3 tokens at ½ each, one token at ¼.
  nats, tokens = [3 * np.log(2), np.log(4)], [3, 1]
  assert estimates.perplexity(nats, tokens).value == pytest.approx((2**3 * 4) ** (1 / 4))


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity_without_error():
  tokens = np.array([3, 9, 20])
  value, se = estimates.perplexity(np.log(50) * tokens, tokens)
  assert value == pytest.approx(50) and se == pytest.approx(0, abs=1e-12)


def test_the_standard_error_of_a_perplexity_is_that_of_the_bootstrap(documents):
  nats, _, tokens = documents
  value, se = estimates.perplexity(nats, tokens)
  assert se == pytest.approx(bootstrap(lambda n, t: np.exp(n.sum() / t.sum()), nats, tokens), rel=0.06)
  rate = nats.sum() / tokens.sum()
  by_hand = np.sqrt(np.sum((nats - rate * tokens) ** 2) * 400 / 399) / tokens.sum()
  assert se == pytest.approx(value * by_hand)


def test_a_paired_difference_is_as_certain_as_the_bootstrap_of_pairs(documents):
  nats, other, tokens = documents
  value, se = estimates.perplexity_difference(nats, other, tokens)
  alone = estimates.perplexity(nats, tokens)
  assert value == pytest.approx(alone.value - estimates.perplexity(other, tokens).value)

  def difference(n, o, t):
    return np.exp(n.sum() / t.sum()) - np.exp(o.sum() / t.sum())

  assert se == pytest.approx(bootstrap(difference, nats, other, tokens), rel=0.06)
  assert se < alone.se / 2


def test_the_standard_error_of_a_mean_is_the_textbooks(documents):
  nats = documents[0]
  value, se = estimates.mean(nats)
  assert value == pytest.approx(nats.mean()) and se == pytest.approx(np.std(nats, ddof=1) / 20)


def test_one_document_has_no_standard_error():
  assert estimates.mean(np.array([2.0])) == (2.0, None)
  assert estimates.perplexity([np.log(8)], [3]) == (pytest.approx(2.0), None)


def test_a_model_that_diverged_is_infinitely_perplexed():
  value, _ = estimates.perplexity([1e6, 2e6], [3, 4])
  assert value == np.inf
