"""The programs that are compared: ours in its variants, and the peers; how each is started.

A program is written `ours`, `unrolled`, or with options, `ours:adjoint=finite_difference,precision=mixed_bfloat16` or
`hvp:lstm=loop`; a bare option is a switch (`finite_difference:compile`).
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys

from tf_savae.errors import UserError

PEERS = {
  "finite_difference": "PyTorch, the paper's finite differences",
  "unrolled": "PyTorch, exact, unrolled",
  "hvp": "PyTorch, exact, recomputed",
}
DEFAULT = ("ours", *PEERS)

# Decoder passes of a step of K refinement steps, as (a, b) of a K + b; tf_savae.svi.adjoint and
# benchmarks.peers.refinement say why.
_PASSES = {
  "ours": {
    "exact": (8, 3),
    "stored": (6, 3),
    "unrolled": (6, 3),
    "finite_difference": (8, 3),
    "first_order": (2, 3),
  },
  "peers": {"finite_difference": (6, 3), "unrolled": (6, 3), "hvp": (8, 3)},
}
# Options of ours that benchmarks.gradients knows, too; others change how a step runs and not what it computes.
_NUMERIC = ("adjoint", "precision", "radius")


@dataclasses.dataclass(frozen=True)
class Setting:
  """What is run.

  Attributes:
    workload: "image", "text" or "synthetic".
    k: SVI steps.
    batch: examples per step.
    threads: within an operation.
    tokens: of a text.
    sizes: of the networks: "paper", or for gradients "small" or "tiny".
  """

  workload: str
  k: int
  batch: int
  threads: int = 1
  tokens: int = 80
  sizes: str = "paper"

  @property
  def name(self) -> str:
    """Fit for a file."""
    tokens = f"-tokens{self.tokens}" if self.workload == "text" else ""
    sizes = "" if self.sizes == "paper" else f"-{self.sizes}"
    return f"{self.workload}-k{self.k}-batch{self.batch}-threads{self.threads}{tokens}{sizes}"

  def arguments(self) -> list[str]:
    """What all programs understand."""
    return [
      f"--workload={self.workload}",
      f"--k={self.k}",
      f"--batch={self.batch}",
      f"--threads={self.threads}",
      f"--tokens={self.tokens}",
    ]


@dataclasses.dataclass(frozen=True)
class Program:
  """One column of the comparison.

  Attributes:
    name: as written.
    algorithm: "ours" or a peer's.
    options: its flags; "" for a switch.
  """

  name: str
  algorithm: str
  options: tuple[tuple[str, str], ...] = ()

  @classmethod
  def parse(cls, name: str) -> Program:
    """Raises UserError for a name that is no program."""
    algorithm, _, rest = name.partition(":")
    if algorithm not in DEFAULT or not re.fullmatch(r"[\w:=,.+-]+", name):
      raise UserError(
        f"--programs takes {', '.join(DEFAULT)}, each with options such as ours:adjoint=unrolled; received {name}"
      )
    pairs = (option.partition("=") for option in rest.split(",") if option)
    return cls(name, algorithm, tuple((key, value) for key, _, value in pairs))

  @property
  def ours(self) -> bool:
    return self.algorithm == "ours"

  @property
  def title(self) -> str:
    """For tables and figures."""
    title = "tf_savae" if self.ours else PEERS[self.algorithm]
    options = [f"{key}={value}" if value else key for key, value in self.options]
    return f"{title} ({', '.join(options)})" if options else title

  def passes(self, k: int) -> int | None:
    """Decoder passes of a step; None where this is not a fixed number."""
    options = dict(self.options)
    table = _PASSES["ours" if self.ours else "peers"]
    a, b = table.get(options.get("adjoint", "exact") if self.ours else self.algorithm, (None, None))
    return None if a is None else a * k + b

  def step(self, setting: Setting, steps: int, torch_python: str) -> list[str]:
    """The command that times it."""
    if self.ours:
      timed = [sys.executable, "-m", "benchmarks.step", *setting.arguments(), f"--steps={steps}"]
      return [*timed, *_flags(self.options)]
    return [*self._peer(setting, torch_python), f"--steps={steps}"]

  def gradients(self, setting: Setting, point: str, dump: str, torch_python: str, dtype: str) -> list[str]:
    """The command that writes its gradients at a point."""
    files = [f"--point={point}", f"--dump={dump}"]
    if not self.ours:
      return [*self._peer(setting, torch_python), f"--dtype={dtype}", *files]
    options = dict(self.options)
    options["precision"] = "float64" if dtype == "float64" else options.get("precision", "float32")
    known = tuple((key, value) for key, value in options.items() if key in _NUMERIC)
    return [*our_gradients(setting), *_flags(known), *files]

  def _peer(self, setting, torch_python):
    python = os.path.expanduser(torch_python)
    return [
      *[python, "-m", "benchmarks.peers.step", *setting.arguments(), f"--sizes={setting.sizes}"],
      f"--algorithm={self.algorithm}",
      *_flags(self.options),
    ]


def our_gradients(setting: Setting) -> list[str]:
  """`benchmarks.gradients` for a setting."""
  return [sys.executable, "-m", "benchmarks.gradients", *setting.arguments(), f"--sizes={setting.sizes}"]


def _flags(options):
  return [f"--{key}={value}" if value else f"--{key}" for key, value in options]
