"""Token sequences of one length, int32 `[batch, length]`, whose tokens are no words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import SPLITS, DataSet
from tf_savae.data.oracle import LATENT, Oracle
from tf_savae.data.synthetic import TokenDataSet
from tf_savae.errors import UserError
from tf_savae.kind import Kind
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.restore import Restored
from tf_savae.serving.payloads import FromLatent, Input, Payloads, checked, drawn_as_it_is


class TokensKind(Kind):
  """Sequences of one length; if an oracle drew them, its parameters are kept with the run."""

  examples = "token sequences"

  def facts(self, data: DataSet) -> dict[str, Any]:
    drawn = data.examples("train", data.num_examples("train"))
    return {"tokens": f"sha256 {hashlib.sha256(drawn.tobytes()).hexdigest()[:16]}"}

  def keep(self, data: DataSet, run: RunDirectory) -> None:
    """Saves the oracle's parameters, because settings and seed reproduce them only with the same version.

    Raises:
      UserError: they cannot be written, or the run has different ones.
    """
    path, oracle = run.oracle_file, getattr(data, "oracle", None)
    if oracle is None:
      return
    if not path.exists():
      oracle.save(path)
    elif not oracle.equals(Oracle.load(path)):
      raise UserError(
        f"{path} is not the oracle that the seed now gives: another version drew it; use that version, or another"
        " --run_dir"
      )

  def outline(self, config: RunConfig, run: RunDirectory) -> DataSet | None:
    if not run.oracle_file.exists():
      return None
    oracle = Oracle.load(run.oracle_file)
    tokens = dict.fromkeys(SPLITS, np.zeros([1, oracle.length], np.int32))
    latents = dict.fromkeys(SPLITS, np.zeros([1, LATENT], np.float32))
    return TokenDataSet(tokens, latents, oracle, source="none", seed=config.seed)

  def xla_pays_from(self, on_gpu: bool) -> float:
    return 0 if on_gpu else 300  # on CPU it is 1.8 times as fast, after half a minute of compiling

  def projector_columns(self, x: np.ndarray, data: DataSet) -> Mapping[str, Sequence[object]]:
    return {"tokens": [" ".join(map(str, row)) for row in x]}

  def payloads(self, trained: Restored, seed: int) -> Payloads:
    model = trained.model
    length, vocab_size = model.decoder.length, model.decoder.vocab_size
    ids = Input(
      tf.TensorSpec([None, length], tf.int32, "x"),
      lambda x: checked("x", x, [length]),
      lambda n: np.random.default_rng(0).integers(0, vocab_size, [n, length]).astype(np.int32),
      f"token ids `[{length}]`, int32",
    )
    probabilities = f"probabilities of the tokens `[{length}, {vocab_size}]` along the greedy path"
    return Payloads(
      {"": ids},
      "",
      drawn_as_it_is(ids),
      FromLatent("decode", "probabilities", "probabilities", model.decode, probabilities),
    )


KIND = TokensKind()
