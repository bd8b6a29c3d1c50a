"""Means and perplexities over examples with standard errors, for one model or between two. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
  """A value and its standard error over examples; the error is None if there is only one example."""

  value: float
  se: float | None


def mean(values: np.ndarray) -> Estimate:
  """The mean of independent values `[n]`, with its standard error."""
  values = np.asarray(values, np.float64)
  n = len(values)
  return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else None)


def perplexity(nats: np.ndarray, tokens: np.ndarray) -> Estimate:
  """exp(total nats / total tokens), in which long documents weigh more than short ones.

  Let r = Σ nats / Σ tokens, a ratio of two means over documents. The delta method gives se(exp r) = exp(r) se(r) and

      se(r) = √(n/(n−1) Σ (nats_i − r tokens_i)²) / Σ tokens

  Args:
    nats: −log p of each document or a bound on it, `[n]`.
    tokens: number of tokens of each document, including END, `[n]`.
  """
  value, influence = _perplexity(nats, tokens)
  return Estimate(value, _se(influence))


def perplexity_difference(nats: np.ndarray, other_nats: np.ndarray, tokens: np.ndarray) -> Estimate:
  """Perplexity of `nats` minus that of `other_nats`, both `[n]`, for the same documents.

  The standard error is paired: what makes a document hard for both models cancels.
  """
  value, influence = _perplexity(nats, tokens)
  other, other_influence = _perplexity(other_nats, tokens)
  return Estimate(value - other, _se(influence - other_influence))


def _perplexity(nats, tokens):
  """The perplexity, and each document's first-order influence on it, `[n]`; the influences sum to 0."""
  nats, tokens = np.asarray(nats, np.float64), np.asarray(tokens, np.float64)
  rate = nats.sum() / tokens.sum()
  # A model that diverged gets an infinite perplexity without a standard error, and not an overflow.
  with np.errstate(over="ignore", invalid="ignore"):
    value = np.exp(rate)
    return float(value), value * (nats - rate * tokens) / tokens.sum()


def _se(influence):
  n = len(influence)
  return float(np.sqrt(n / (n - 1) * np.sum(influence**2))) if n > 1 else None
