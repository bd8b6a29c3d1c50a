"""Likelihoods: what the numbers that a decoder gives for each place of an observation mean. See `Likelihood`."""

from __future__ import annotations

from tf_savae import lazy
from tf_savae.likelihoods.registries import LIKELIHOODS

_HOMES = {
  "Bernoulli": "tf_savae.likelihoods.bernoulli",
  "Categorical": "tf_savae.likelihoods.categorical",
  "Gaussian": "tf_savae.likelihoods.gaussian",
  "Likelihood": "tf_savae.likelihoods.likelihood",
  "LogisticMixture": "tf_savae.likelihoods.logistic_mixture",
  "Poisson": "tf_savae.likelihoods.poisson",
}
__all__ = ["LIKELIHOODS", *_HOMES]
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
