"""Settings of how a run is evaluated and how it uses the machine."""

from __future__ import annotations

import dataclasses

from tf_savae.runs.names import TEXT
from tf_savae.runs.options import OnResume, one_of, option, optional, path, switch, whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineSettings:
  """Groups "Evaluation" and "Machine" of `RunConfig`."""

  # Evaluation.
  eval_batch_size: int = option(100, whole(1), "examples per evaluation batch", "Evaluation", OnResume.FREE)
  iw_samples: int = option(
    200, whole(1), "importance samples per example of the likelihood at the end", "Evaluation", OnResume.FREE
  )

  eval_file: str | None = option(
    None,
    optional(path()),
    "with --eval_only: a text to evaluate the run on; its numbers go to results-<name>.json",
    "Evaluation",
    OnResume.FREE,
    only=TEXT,
  )

  # How it runs.
  checkpoint_every: int = option(
    200,
    whole(0),
    "updates between checkpoints, besides one every epoch; 0: epochs only",
    "Machine",
    OnResume.FREE,
  )
  keep_checkpoints: int = option(2, whole(2), "checkpoints kept, besides the best", "Machine", OnResume.FREE)
  precision: str = option(
    "float32",
    one_of("float32", "mixed_bfloat16", "bfloat16_adjoint"),
    "arithmetic of the networks; λ stays float32. bfloat16_adjoint: float32, but for the decoder's second derivatives"
    " in the sweep back through the refinement",
    "Machine",
  )
  jit_compile: str = option(
    "auto",
    one_of("auto", "true", "false"),
    "compile the step with XLA; auto: where it is faster",
    "Machine",
    OnResume.FREE,
  )
  logit_positions: int = option(
    0,
    whole(0),
    "text: tokens of a batch whose logits are in memory at once; 0: all; fewer save memory, not time",
    "Machine",
    OnResume.FREE,
    only=TEXT,
  )
  deterministic: bool = option(
    False,
    switch(),
    "bit-identical reruns, where it can be had (not of text), at the cost of speed",
    "Machine",
    OnResume.FREE,
  )
