"""The names of likelihoods. No TensorFlow."""

from __future__ import annotations

from tf_savae.registry import Registry

#: Likelihoods by name, as `--likelihood` takes them.
LIKELIHOODS: Registry[type] = Registry(
  "likelihood",
  {
    "bernoulli": "tf_savae.likelihoods.bernoulli:Bernoulli",
    "logistic_mixture": "tf_savae.likelihoods.logistic_mixture:LogisticMixture",
    "gaussian": "tf_savae.likelihoods.gaussian:Gaussian",
    "categorical": "tf_savae.likelihoods.categorical:Categorical",
    "poisson": "tf_savae.likelihoods.poisson:Poisson",
  },
)
