"""`RunConfig`: everything that decides a training run, frozen and validated in one place.

Each field carries its rule, its help text, and whether it may change when a run is resumed. The command
line (`tf_savae.commands.train`) is derived from it. Nothing here imports TensorFlow: a wrong flag answers at
once.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from tf_savae.errors import UserError
from tf_savae.runs.machine_settings import MachineSettings
from tf_savae.runs.model_settings import ModelSettings
from tf_savae.runs.names import DECODERS, SYNTHETIC, TEXT
from tf_savae.runs.options import OnResume
from tf_savae.runs.run_settings import RunSettings


class Difference(NamedTuple):
  """A setting that stands in the way of resuming: its name, what the run has, and what was received."""

  name: str
  was: Any
  received: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(MachineSettings, ModelSettings, RunSettings):
  """One training run. The defaults are the paper's settings for images; `presets` says what others change.

  Constructing one validates it: UserError, one line, for a value that is not allowed or does not fit the
  others. `presets.make_config` is the usual way to get one.
  """

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, list):
        value = tuple(value)
        object.__setattr__(self, field.name, value)
      rule = field.metadata["rule"]
      if not rule.accepts(value):
        raise UserError(f"--{field.name} must be {rule.expected}; received {show(value)}")
    run_dir = self.run_dir or os.path.join(
      "runs", f"{self.dataset}-{self.model}-k{self.k}-{self.preset}-seed{self.seed}"
    )
    object.__setattr__(self, "run_dir", os.path.expanduser(run_dir))
    object.__setattr__(self, "data_dir", os.path.expanduser(self.data_dir))
    if self.init_from is not None:
      object.__setattr__(self, "init_from", os.path.expanduser(self.init_from))
    if self.eval_file is not None:
      object.__setattr__(self, "eval_file", os.path.expanduser(self.eval_file))
    self._check_together()

  def _check_together(self):
    """Raises UserError for settings that are allowed, but not together."""
    possible = ("auto", *DECODERS[self.dataset])
    if self.decoder not in possible:
      raise UserError(
        f"--decoder of --dataset={self.dataset} must be one of {', '.join(possible)}; received {self.decoder}"
      )
    if self.generator == "oracle" and (
      self.dataset not in SYNTHETIC or self.model == "autoreg" or self.latent_dim != 2
    ):
      raise UserError(
        "--generator=oracle is for --dataset=synthetic, a --model with a latent and --latent_dim=2; received"
        f" --dataset={self.dataset} --model={self.model} --latent_dim={self.latent_dim}"
      )
    if self.svi_noise == "antithetic" and self.svi_samples % 2:
      raise UserError(
        "--svi_noise=antithetic draws in pairs and needs an even --svi_samples, such as"
        f" {self.svi_samples + 1}; received --svi_samples={self.svi_samples}"
      )
    if self.min_learning_rate > self.learning_rate:
      raise UserError(
        f"--min_learning_rate must be at most --learning_rate={show(self.learning_rate)}; received"
        f" {show(self.min_learning_rate)}; 0 is no limit"
      )
    if self.adjoint_dtype and (self.model != "savae" or self.adjoint not in ("exact", "truncated")):
      raise UserError(
        "--precision=bfloat16_adjoint is for --model=savae with --adjoint=exact or truncated; received"
        f" --model={self.model} --adjoint={self.adjoint}"
      )
    if self.eval_file is not None and not self.is_text:
      raise UserError(
        f"--eval_file is for runs on text; received {self.eval_file} for --dataset={self.dataset}"
      )
    if self.eval_file is not None and not self.eval_only:
      raise UserError(f"--eval_file goes with --eval_only; received {self.eval_file} for training")

  @property
  def network_precision(self) -> str:
    """The networks' dtype policy."""
    return "float32" if self.precision == "bfloat16_adjoint" else self.precision

  @property
  def adjoint_dtype(self) -> str | None:
    """Of the decoder's arithmetic in the adjoint sweep; None: as everywhere."""
    return "bfloat16" if self.precision == "bfloat16_adjoint" else None

  @property
  def is_text(self) -> bool:
    """Whether the data set is one of documents."""
    return self.dataset in TEXT

  @property
  def decoder_name(self) -> str:
    """`decoder`, with `auto` resolved."""
    return DECODERS[self.dataset][0] if self.decoder == "auto" else self.decoder

  @property
  def svi_clip(self) -> float | None:
    """`svi_clip_norm`, or None when clipping is off: what `SVISettings.clip_norm` takes."""
    return self.svi_clip_norm if self.svi_clip_norm > 0 else None

  @property
  def outer_clip(self) -> float | None:
    """`clip_norm`, or None when clipping is off."""
    return self.clip_norm if self.clip_norm > 0 else None

  def to_dict(self) -> dict[str, Any]:
    """Every field as a JSON value."""
    values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict`; a missing field takes its default.

    Raises:
      UserError: a name that is no field, or a value that is not allowed.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    for name in values:
      if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {close[0]}?" if close else "it is no setting of this version"
        raise UserError(f"unknown setting {name!r} = {values[name]!r}; {hint}")
    return cls(**values)

  def differences(self, received: RunConfig) -> list[Difference]:
    """What forbids to go on with this run under the settings `received`; empty when nothing does."""
    found = []
    for field in dataclasses.fields(self):
      was, now = getattr(self, field.name), getattr(received, field.name)
      on_resume = field.metadata["on_resume"]
      changed = on_resume is OnResume.FIXED and was != now
      shrunk = on_resume is OnResume.GROWS and (now or float("inf")) < (was or float("inf"))
      if changed or shrunk:
        found.append(Difference(field.name, was, now))
    return found


def show(value: Any) -> str:
  """A value the way one would write it on the command line."""
  if isinstance(value, tuple | list):
    return ",".join(str(v) for v in value)
  return repr(value) if value is None or value == "" else str(value)
