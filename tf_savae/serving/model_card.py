"""The README that travels with an exported model: what it is, where it comes from, how to call it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

import tf_savae
from tf_savae.model import SAVAE
from tf_savae.runs.restore import Restored
from tf_savae.serving.gate import Difference
from tf_savae.serving.signatures import Options, Signature

_METRICS = {
  "nll_bound": "negative ELBO at λ_K",
  "kl": "KL at λ_K",
  "nll_bound_initial": "negative ELBO at λ_0",
  "kl_initial": "KL at λ_0",
  "nll_iw": "−log p(x), importance-sampled",
  "bits_bound": "bits per dimension, bound at λ_K",
  "bits_iw": "bits per dimension, importance-sampled",
  "ppl_bound": "perplexity bound",
  "ppl_iw": "perplexity, importance-sampled",
}


@dataclasses.dataclass(frozen=True)
class About:
  """What a card says about the model, besides what can be called.

  Attributes:
    title: its heading.
    data: lines about the data that it was trained on, and its results.
  """

  title: str
  data: tuple[str, ...]


def of_run(trained: Restored, version: int) -> About:
  """About the model of a run, exported as `version`."""
  config = trained.config
  return About(f"{config.model} on {config.dataset}, version {version}", tuple(_results(trained.results)))


def text(
  about: About,
  model: SAVAE,
  options: Options,
  signatures: Mapping[str, Signature],
  differences: list[Difference],
  today: datetime.date,
) -> str:
  """The card, Markdown.

  Args:
    about: its heading, data and results.
    model: what was exported.
    options: what was baked in.
    signatures: by name.
    differences: what the gate measured.
    today: the date.
  """
  worst = max(differences, key=lambda difference: difference.value)
  lines = [
    f"# {about.title}",
    "",
    f"A variational autoencoder of tf_savae {tf_savae.__version__}"
    f" (method `{model.method_name}`, {model.latent_dim} latents),"
    f" exported on {today.isoformat()} with TensorFlow {tf.__version__} and Keras {keras.__version__}."
    f" Licence of the code: {tf_savae.__license__}.",
    "",
    "## Data and results",
    "",
    *about.data,
    "",
    "## Refinement",
    "",
    *_refinement(model, options),
    "",
    "## Signatures",
    "",
    "Every input and output has the batch as dimension 0, of any size, 0 included; shapes below are those of a row."
    " A row's answer depends on that row alone, not on its batch-mates or its position. The size of the batch decides"
    " how TensorFlow's kernels round, which changes λ_0 by some 1e-7 and λ_K by up to some 1e-6.",
    "",
    "| signature | input | outputs |",
    "| --- | --- | --- |",
    *(_row(name, signature) for name, signature in signatures.items()),
    "",
    *dict.fromkeys(
      f"* `{key}`: {text}" for signature in signatures.values() for key, text in signature.input_texts.items()
    ),
    "",
    "A row that cannot be read (a file that is no PNG, a sentence that is too long) fails its whole request with"
    " INVALID_ARGUMENT and a message; with server-side batching also the requests that share its batch.",
    "",
    "## Checks",
    "",
    f"Every signature was run by TensorFlow's C++ runtime without Python and compared with the Keras model: the largest"
    f" relative difference was {worst.value:.1e} ({worst.signature}, {worst.output}).",
    "",
  ]
  return "\n".join(lines)


def _results(results: Mapping[str, Any] | None) -> list[str]:
  if results is None:
    return ["Training was not finished when this was exported: there are no results."]
  stand_in = " THIS IS A STAND-IN for the data set, not the data set." if results.get("is_stand_in") else ""
  test = results.get("test")
  if test is None:
    return [f"Data: {results['dataset_source']}.{stand_in}", "", "This run was not evaluated on test data."]
  lines = [
    f"Data: {results['dataset_source']}.{stand_in}",
    "",
    f"Preset {results['preset']}, seed {results['seed']}, {results['steps']} updates. Test set, {test['examples']}"
    f" examples, K = {results['eval_k']}; nats per example (perplexity: per token):",
    "",
    "| | |",
    "| --- | --- |",
  ]
  lines += [
    f"| {label} | {test[name]:.{4 if name.startswith('bits') else 2}f} |"
    for name, label in _METRICS.items()
    if test.get(name) is not None
  ]
  return lines


def _refinement(model: SAVAE, options: Options) -> list[str]:
  if not model.method.has_latent:
    return ["None: the model has no latent."]
  samples = options.num_samples
  pairs = " in pairs ε, −ε" if model.svi.antithetic else ""
  draws, averaged = (
    ("1 noise draw", "") if samples == 1 else (f"{samples} noise draws{pairs}", f" averaged over {samples}")
  )
  lines = [
    f"λ_K is reached by K = {', '.join(map(str, options.k))} SVI steps of the rule `{model.svi.step_rule}`, with the"
    f" step sizes of training and {draws} per step. All noise was drawn once, from seed {options.seed}, and is the same"
    f" for every row. The bounds are one-draw estimates{averaged}."
  ]
  if not model.method.has_encoder:
    lines.append("There is no encoder: λ_0 is one random draw, the same for every row.")
  elif model.method.learns_step_size:
    lines.append("Training looks at λ_K only: `encode` alone, without refinement, may be a poor posterior.")
  return lines


def _row(name: str, signature: Signature) -> str:
  outputs = "; ".join(f"`{key}`: {text}" for key, text in signature.outputs.items())
  inputs = ", ".join(f"`{key}`" for key in signature.specs)
  return f"| `{name}` | {inputs} | {outputs.replace('|', chr(92) + '|')} |"
