"""`RunConfig`: everything that decides a training run, frozen and validated in one place.

Each field carries its rule, its help text, and whether it may change when a run is resumed. The command
line (`tf_savae.commands.train`) is derived from it. Nothing here imports TensorFlow: a wrong flag answers at
once.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tf_savae import plugins
from tf_savae.data.sources import DATASETS
from tf_savae.errors import UserError
from tf_savae.kind import KINDS
from tf_savae.methods import METHODS
from tf_savae.networks.catalogue import DECODERS, ENCODERS, Catalogue
from tf_savae.posteriors import POSTERIORS
from tf_savae.runs.model_settings import ModelSettings
from tf_savae.runs.options import OnResume, concerns
from tf_savae.runs.settings import MachineSettings, RunSettings
from tf_savae.svi import ADJOINTS, RULES

# What learned step sizes belong to.
_OF_STEP_SIZES = ("svi_lr", "svi_lr_log_var", "svi_schedule", "svi_rule")


class Difference(NamedTuple):
  """A setting that prevents resuming: its name, the run's value, and the received value."""

  name: str
  was: Any
  received: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(MachineSettings, ModelSettings, RunSettings):
  """One training run. The defaults are the paper's settings for images; `presets` says what others change.

  Constructing one imports its plug-ins and validates it: UserError, one line, for a value that is not allowed or does
  not fit the others. `presets.make_config` is the usual way to get one.

  Raises:
    UserError: a value is not allowed, or does not fit the others.

  Example:
    >>> import dataclasses
    >>> from tf_savae.training import RunConfig
    >>> config = RunConfig(dataset="omniglot", model="vae", k=0)
    >>> dataclasses.replace(config, seed=1).seed
    1
  """

  def __post_init__(self):
    given = (self.plugin,) if isinstance(self.plugin, str) else self.plugin
    self._set("plugin", tuple(os.path.abspath(os.path.expanduser(path)) for path in given))
    plugins.load(self.plugin)
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, list):
        value = tuple(value)
        self._set(field.name, value)
      rule = field.metadata["rule"]
      if not rule.accepts(value):
        raise UserError(f"--{field.name} must be {rule.expected}; received {show(value)}")
    run_dir = self.run_dir or f"runs/{self.dataset}-{self.model}-k{self.k}-{self.preset}-seed{self.seed}"
    self._set("run_dir", os.path.expanduser(run_dir))
    for name in ("data_dir", "init_from", "eval_file"):
      if getattr(self, name) is not None:
        self._set(name, os.path.expanduser(getattr(self, name)))
    self._check_together()

  def _set(self, name: str, value: Any) -> None:
    object.__setattr__(self, name, value)

  def _check_network(self, role: str, catalogue: Catalogue) -> None:
    possible, name = ("auto", *catalogue.names(self.kind)), getattr(self, role)
    if name not in possible:
      raise UserError(
        f"--{role} of --dataset={self.dataset} must be one of {', '.join(possible)}; received {name}"
      )

  @property
  def _can_have_oracle(self) -> bool:
    """Whether the oracle of the data can be the decoder."""
    if not DECODERS.names(self.kind) or self.latent_dim != 2:
      return False
    return (
      "generator" in DECODERS.get(self.decoder, self.kind).settings and METHODS.get(self.model).has_latent
    )

  @property
  def _can_compute_adjoint_in_it(self) -> bool:
    """Whether the method uses an adjoint that can compute in a separate dtype."""
    passes_through = METHODS.get(self.model).differentiates
    return passes_through and "compute_dtype" in getattr(self.adjoint_type, "__dataclass_fields__", {})

  def _check_together(self):
    """Raises UserError for settings that are allowed separately but not together."""
    if self.kind not in KINDS:
      raise UserError(
        f"--dataset={self.dataset} is of the kind {self.kind!r}, which is not registered; the kinds are"
        f" {', '.join(KINDS)}"
      )
    self._check_network("encoder", ENCODERS)
    self._check_network("decoder", DECODERS)
    if self.generator == "oracle" and not self._can_have_oracle:
      raise UserError(
        "--generator=oracle is for --dataset=synthetic, a --model with a latent and --latent_dim=2; received"
        f" --dataset={self.dataset} --model={self.model} --latent_dim={self.latent_dim}"
      )
    self._check_refinement()
    self._check_posterior()
    if self.bound_samples > 1 and self.bound_samples % 2:
      raise UserError(
        f"--bound_samples must be 1 or even, because draws come in pairs; received {self.bound_samples}"
      )
    if self.min_learning_rate > self.learning_rate:
      raise UserError(
        f"--min_learning_rate must be at most --learning_rate={show(self.learning_rate)}; received"
        f" {show(self.min_learning_rate)}; 0 is no limit"
      )
    if self.adjoint_dtype and not self._can_compute_adjoint_in_it:
      raise UserError(
        "--precision=bfloat16_adjoint is for a --model that learns through the refinement, such as savae, and an"
        f" --adjoint with a compute_dtype, such as exact; received --model={self.model} --adjoint={self.adjoint}"
      )
    self._check_adjoint()
    self._check_objective()
    self._check_lagging()
    if self.bn_gamma and self.posterior == "full":
      raise UserError(
        f"--bn_gamma is for encoders that give means and variances; received --bn_gamma={show(self.bn_gamma)}"
        " --posterior=full; use --posterior=diagonal"
      )
    if self.init_networks == "encoder" and not METHODS.get(self.model).has_encoder:
      raise UserError(
        f"--init_networks=encoder is for a --model with an encoder; received --model={self.model}; leave it out"
      )
    if self.eval_file is not None and not concerns(self.__dataclass_fields__["eval_file"], self.kind):
      raise UserError(
        f"--eval_file is for runs on text; received {self.eval_file} for --dataset={self.dataset}"
      )
    if self.eval_file is not None and not self.eval_only:
      raise UserError(f"--eval_file goes with --eval_only; received {self.eval_file} for training")

  def _check_refinement(self):
    """The part of `_check_together` that is about SVI steps."""
    method, model = METHODS.get(self.model), f"--model={self.model}"
    if self.svi_noise in ("antithetic", "signs") and self.svi_samples % 2:
      raise UserError(
        f"--svi_noise={self.svi_noise} draws in pairs and needs an even --svi_samples, such as"
        f" {self.svi_samples + 1}; received --svi_samples={self.svi_samples}"
      )
    if self.svi_noise in ("mean", "quadrature") and self.svi_samples != 1:
      raise UserError(
        f"--svi_noise={self.svi_noise} has no noise to average over and needs --svi_samples=1; received"
        f" --svi_samples={self.svi_samples}"
      )
    if self.learn_svi_lr not in ("none", "auto") and not method.learns_step_size:
      raise UserError(
        f"--learn_svi_lr={self.learn_svi_lr} is for a --model that learns through the refinement, such as savae;"
        f" received {model}; auto trains step sizes only where the model can"
      )
    if self.initial_loss_weight and not method.weighs_initial_loss:
      raise UserError(
        "--initial_loss_weight is for a --model that learns through the refinement, such as savae; received"
        f" {model} --initial_loss_weight={show(self.initial_loss_weight)}; leave it out"
      )
    if self.initial_loss_trains != "encoder" and not self.initial_loss_weight:
      raise UserError(
        f"--initial_loss_trains={self.initial_loss_trains} needs an L(λ_0) in the loss, by --initial_loss_weight=1 and"
        f" a --model that learns through the refinement, such as savae; received {model} --initial_loss_weight=0"
      )
    if self.eval_k and not method.has_latent:
      raise UserError(
        f"--eval_k={self.eval_k} has nothing to refine: {model} has no latent; leave it out, or give 0"
      )

  def _check_posterior(self):
    """Raises UserError where a setting is for another posterior family. That of the default imports no TensorFlow."""
    given = f"--posterior={self.posterior}"
    if self.posterior == "diagonal":
      return
    if not METHODS.get(self.model).has_latent:
      raise UserError(f"{given} is for a --model with a latent; received --model={self.model}; leave it out")
    by_draws = not POSTERIORS.get(self.posterior).kl_in_closed_form
    if self.svi_noise == "quadrature":
      raise UserError(
        f"--svi_noise=quadrature is for --posterior=diagonal, over which the decoder integrates; received {given}; use"
        " --svi_noise=antithetic --svi_samples=2"
      )
    if by_draws and self.svi_noise == "mean":
      raise UserError(
        f"{given} estimates its KL at the draws of a step, and --svi_noise=mean has none; use --svi_noise=antithetic"
        " --svi_samples=2"
      )
    if by_draws and self.free_bits:
      raise UserError(
        f"--free_bits={show(self.free_bits)} is for a posterior with a KL of each latent, diagonal or full; received"
        f" {given}; use --free_bits=0"
      )
    if self.svi_rule == "natural_multiplicative" and self.posterior == "full":
      raise UserError(
        f"--svi_rule={self.svi_rule} is for diagonal Gaussians; received {given}; use --svi_rule=natural"
      )

  def _check_adjoint(self):
    """Raises UserError where method or adjoint leave something that is to be trained without gradient."""
    if self.trains_rule and not (METHODS.get(self.model).learns_step_size and self.trains_start):
      raise UserError(
        f"--svi_rule={self.svi_rule} is trained through the refinement, by --model=savae and an --adjoint such as"
        f" exact; received --model={self.model} --adjoint={self.adjoint}"
      )
    if self.trains_start or not METHODS.get(self.model).differentiates:
      return
    if METHODS.get(self.model).has_encoder and not self.initial_loss_weight:
      raise UserError(
        f"--adjoint={self.adjoint} gives the encoder no gradient through the steps; train it on L(λ_0) with"
        " --initial_loss_weight=1; received --initial_loss_weight=0"
      )
    if self.learn_svi_lr not in ("none", "auto"):
      raise UserError(
        f"--adjoint={self.adjoint} gives step sizes no gradient; use --learn_svi_lr=none; received"
        f" --learn_svi_lr={self.learn_svi_lr}"
      )

  def _check_objective(self):
    """Raises UserError where the bound in training is not for the method or the other settings."""
    if self.objective == "elbo":
      return
    method, received = METHODS.get(self.model), f"--model={self.model} --objective={self.objective}"
    if not method.has_latent:
      raise UserError(f"--objective={self.objective} is for a --model with a latent; received {received}")
    if self.objective == "buffered" and not (method.refines and self.k):
      raise UserError(
        "--objective=buffered draws from the steps of a --model that refines, with --k=1 or more; received"
        f" {received} --k={self.k}"
      )
    if self.free_bits:
      raise UserError(
        f"--free_bits are of the KL in closed form, which --objective={self.objective} does not have; received"
        f" --free_bits={show(self.free_bits)}"
      )
    if self.svi_noise == "quadrature":
      raise UserError(
        f"--objective={self.objective} draws z, and --svi_noise=quadrature leaves no draws in training; give another"
        " --svi_noise, such as independent"
      )

  def _check_lagging(self):
    """Raises UserError where encoder and decoder cannot be updated one without the other."""
    if not self.lagging_updates:
      return
    received = f"received --lagging_updates={self.lagging_updates}"
    if not METHODS.get(self.model).has_encoder:
      raise UserError(
        f"--lagging_updates is for a --model with an encoder, such as vae; {received} --model={self.model}"
      )
    if self.posterior != "diagonal":
      raise UserError(
        f"--lagging_updates needs the mutual information of --posterior=diagonal; {received}"
        f" --posterior={self.posterior}"
      )
    if self.precision == "mixed_float16":
      raise UserError(
        f"--lagging_updates does not go with --precision=mixed_float16; {received}; take mixed_bfloat16"
      )

  @property
  def network_precision(self) -> str:
    """The networks' dtype policy."""
    return "float32" if self.precision in ("bfloat16_adjoint", "tf32") else self.precision

  @property
  def adjoint_dtype(self) -> str | None:
    """The dtype of the decoder in the adjoint sweep; None: the same as everywhere."""
    return "bfloat16" if self.precision == "bfloat16_adjoint" else None

  @property
  def kind(self) -> str:
    """The kind of the data set's examples, a name in `tf_savae.kind.KINDS`."""
    return DATASETS.get(self.dataset).kind

  @property
  def decoder_name(self) -> str:
    """`decoder`, with `auto` resolved."""
    return DECODERS.resolve(self.decoder, self.kind)

  def values(self, names: Iterable[str]) -> dict[str, Any]:
    """Some settings by name, to be passed as keyword arguments.

    Raises:
      UserError: a name is not that of a setting.
    """
    names = list(names)
    for name in names:
      if name not in self.__dataclass_fields__:
        raise UserError(f"{name!r} is no setting that a data set or network could take; see --help for all")
    return {name: getattr(self, name) for name in names}

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

  @property
  def learns_step_sizes(self) -> bool:
    """Whether training changes the step sizes."""
    if not (METHODS.get(self.model).learns_step_size and self.trains_start and self.k > 0):
      return False
    return self.learn_svi_lr != "none" or self.trains_rule

  @property
  def trains_rule(self) -> bool:
    """Whether the step rule has weights to be trained."""
    # The default is known without importing TensorFlow.
    return self.svi_rule != "gradient" and getattr(RULES.get(self.svi_rule), "trained", False)

  @property
  def trains_start(self) -> bool:
    """Whether the adjoint gives λ_0 and the step sizes a gradient."""
    # The default is known without importing TensorFlow.
    return self.adjoint in ("auto", "exact") or getattr(self.adjoint_type, "trains_start", True)

  @property
  def adjoint_type(self) -> type:
    """The class of the adjoint; with "auto", which chooses another one only to save time, that of "exact"."""
    return ADJOINTS.get("exact" if self.adjoint == "auto" else self.adjoint)

  def check_steps(self, received: RunConfig, run_dir: str | os.PathLike[str]) -> None:
    """Refuses other steps than those for which this run has learned step sizes.

    Args:
      received: the settings that the run is to be used with.
      run_dir: of the run, for the message.

    Raises:
      UserError: they have another rule or other step sizes.
    """
    for name in _OF_STEP_SIZES if self.learns_step_sizes else ():
      if getattr(self, name) != getattr(received, name):
        raise UserError(
          f"--{name}={show(getattr(received, name))} cannot be used: the run in {run_dir} has learned its steps"
        )

  def differences(self, received: RunConfig) -> list[Difference]:
    """The differences that prevent resuming this run with the settings `received`; empty if there are none."""
    found = []
    for field in dataclasses.fields(self):
      was, now = getattr(self, field.name), getattr(received, field.name)
      on_resume = field.metadata["on_resume"]
      fixed = on_resume is OnResume.FIXED or (on_resume is OnResume.EVALUATION and not received.eval_only)
      changed = fixed and was != now
      shrunk = on_resume is OnResume.GROWS and (now or float("inf")) < (was or float("inf"))
      if changed or shrunk:
        found.append(Difference(field.name, was, now))
    return found


def show(value: Any) -> str:
  """A value as it would be written on the command line."""
  if isinstance(value, tuple | list):
    return ",".join(str(v) for v in value)
  return repr(value) if value is None or value == "" else str(value)
