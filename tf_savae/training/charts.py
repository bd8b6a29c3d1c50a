"""TensorBoard's charts: where each number of a run is shown, and the Custom Scalars page of λ_0 against λ_K."""

from __future__ import annotations

import re

import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalars

# Key in Keras's logs → chart and what it shows.
SCALARS = {
  "bound": ("bound/lambda_K", "−ELBO after refinement, nats per example, KL weighted by 1; lower is better"),
  "bound_initial": ("bound/lambda_0", "−ELBO at the encoder's posterior, nats per example"),
  "gain": ("bound/gain_of_refinement", "−ELBO at λ_0 minus −ELBO at λ_K, nats: what K SVI steps gain"),
  "nll": ("terms/nll", "−log p(x | z) at z drawn from q_λK, nats per example"),
  "kl": ("terms/kl_lambda_K", "KL(q_λK ‖ prior), nats per example"),
  "kl_initial": ("terms/kl_lambda_0", "KL(q_λ0 ‖ prior), nats per example"),
  "loss": ("training/loss", "the objective that is minimised: with β and the method's own terms"),
  "gradient_norm_encoder": ("training/gradient_norm_encoder", "global norm before clipping"),
  "gradient_norm_decoder": ("training/gradient_norm_decoder", "global norm before clipping"),
  "beta": ("training/beta", "weight of the KL in the objective"),
  "k_now": ("training/svi_steps", "SVI steps of an update"),
  "learning_rate": ("training/learning_rate", ""),
  "examples_per_second": ("training/examples_per_second", "while updating; validation does not count"),
  "skipped": ("training/skipped_updates", "updates so far whose loss or gradient was not finite"),
  "perplexity": (
    "perplexity/lambda_K",
    "exp(total −ELBO at λ_K / total tokens), an upper bound; lower is better",
  ),
  "perplexity_initial": ("perplexity/lambda_0", "exp(total −ELBO at λ_0 / total tokens)"),
  "mutual_information": (
    "latent/mutual_information",
    "I(x; z) under q_λK, nats, over some validation examples, at most log of their number; 0: the latent is unused",
  ),
  "active_units": ("latent/active_units", "latents whose posterior mean varies over validation examples"),
}
# Title on the Custom Scalars page → the two numbers that share the chart, keys of `SCALARS`.
_SIDE_BY_SIDE = {
  "bound, nats": ("bound_initial", "bound"),
  "KL to the prior, nats": ("kl_initial", "kl"),
  "perplexity": ("perplexity_initial", "perplexity"),
}
_PAGE = "λ_0 (encoder) against λ_K (after refinement)"


def write_custom_scalars(writer: tf.summary.SummaryWriter, has_perplexity: bool) -> None:
  """Writes the layout of the Custom Scalars page. The charts themselves are made from the scalars of all runs.

  Args:
    writer: writer of any TensorBoard run of the log directory.
    has_perplexity: whether the data have perplexities; if not, their chart would stay empty.
  """
  page = layout_pb2.Category(title=_PAGE)
  for title, names in _SIDE_BY_SIDE.items():
    if title != "perplexity" or has_perplexity:
      tags = [f"^{re.escape(SCALARS[name][0])}$" for name in names]
      page.chart.add(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))
  layout = custom_scalars.pb(layout_pb2.Layout(category=[page]))
  with writer.as_default():
    tf.summary.experimental.write_raw_pb(layout.SerializeToString(), step=0)
