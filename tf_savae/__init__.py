"""Semi-amortized variational autoencoders (Kim et al., ICML 2018) in TensorFlow and Keras."""

from tf_savae.model import SAVAE
from tf_savae.posterior import GaussianParams
from tf_savae.refinement import Refinement, refine
from tf_savae.svi import SVISettings

__all__ = ["SAVAE", "GaussianParams", "Refinement", "SVISettings", "refine"]
