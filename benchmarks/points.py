"""Files in which two programs exchange gradients and the point at which these are compared. NumPy only.

A point consists of weights, a batch, its noise and the settings of the refinement. Every number is representable in
float32, so that float32 and float64 begin at the same point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

STEP_SIZES = "step_sizes"  # whose gradients are a group of their own, and no part of all


@dataclasses.dataclass(frozen=True)
class Point:
  """A point at which gradients are compared.

  Attributes:
    x: the observations, in our layout.
    noise: ε of the K steps and of the final loss, `[K + 1, batch, latent]`.
    step_sizes: α, `[K]`.
    momentum: γ.
    clip_norm: bound on an example's gradient; None: off.
    beta: weight of the KL.
    named_weights: "encoder/…" and "decoder/…", in our layout.
  """

  x: np.ndarray
  noise: np.ndarray
  step_sizes: np.ndarray
  momentum: float
  clip_norm: float | None
  beta: float
  named_weights: Mapping[str, np.ndarray]

  def weights(self, network: str) -> dict[str, np.ndarray]:
    """Those of "encoder" or "decoder", by their names there."""
    prefix = f"{network}/"
    return {n.removeprefix(prefix): w for n, w in self.named_weights.items() if n.startswith(prefix)}


def write(path: str, point: Point) -> None:
  """Writes `path`, an .npz."""
  numbers = {"step_sizes": point.step_sizes, "momentum": point.momentum, "beta": point.beta}
  numbers["clip_norm"] = 0.0 if point.clip_norm is None else point.clip_norm
  with open(path, "wb") as file:
    np.savez(file, x=point.x, noise=point.noise, **numbers, **point.named_weights)


def read(path: str) -> Point:
  """Reads a point that `write` wrote."""
  with np.load(path) as file:
    arrays = dict(file)
  return Point(
    x=arrays.pop("x"),
    noise=arrays.pop("noise"),
    step_sizes=arrays.pop("step_sizes"),
    momentum=float(arrays.pop("momentum")),
    clip_norm=float(arrays.pop("clip_norm")) or None,
    beta=float(arrays.pop("beta")),
    named_weights=arrays,
  )


def write_gradients(
  path: str,
  loss: float,
  at_start: Sequence[np.ndarray],
  encoder: Mapping[str, np.ndarray],
  decoder: Mapping[str, np.ndarray],
  step_sizes: np.ndarray | None = None,
) -> None:
  """The loss, and its gradients for λ_0, all weights and the step sizes, by our names and in our layout."""
  named = {"lambda_0/mean": at_start[0], "lambda_0/log_var": at_start[1]}
  if step_sizes is not None:
    named[STEP_SIZES] = step_sizes
  for network, gradients in {"encoder": encoder, "decoder": decoder}.items():
    named |= {f"{network}/{name}": gradient for name, gradient in gradients.items()}
  with open(path, "wb") as file:
    np.savez(file, loss=loss, **named)


def read_gradients(path: str) -> dict[str, np.ndarray]:
  """By name, in float64, with "loss" among them."""
  with np.load(path) as file:
    return {name: np.asarray(array, np.float64) for name, array in file.items()}


def distance(found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], group: str = "") -> float:
  """‖found − reference‖ / ‖reference‖ over all gradients whose name begins with `group`; "": all but step sizes.

  Raises:
    ValueError: the two do not have the same names.
  """
  if found.keys() != reference.keys():
    raise ValueError(f"gradients of the same weights. Received: {sorted(found.keys() ^ reference.keys())}")
  others = {"loss"} if group else {"loss", STEP_SIZES}
  names = [name for name in reference if name.startswith(group) and name not in others]
  return norm({n: found[n] - reference[n] for n in names}) / norm({n: reference[n] for n in names})


def norm(gradients: Mapping[str, np.ndarray]) -> float:
  """Of all together."""
  return float(np.sqrt(sum(np.sum(np.square(g)) for g in gradients.values())))


def errors(
  found: Mapping[str, np.ndarray],
  exact: Mapping[str, np.ndarray],
  first_order: Mapping[str, np.ndarray] | None = None,
) -> dict[str, float]:
  """Relative errors of gradients, for all and by group.

  Args:
    found: gradients of a program.
    exact: the float64 gradients at the same point.
    first_order: the same at constant λ_K; what `exact` has more in the decoder is its second-order part.

  Returns:
    "all", "lambda_0", "encoder", "decoder", "step_sizes" if the files have them, and with `first_order`
    "decoder_second_order", whose error is relative to the norm of that part alone.
  """
  found_errors = {
    group or "all": distance(found, exact, group) for group in ("", "lambda_0", "encoder", "decoder")
  }
  if STEP_SIZES in exact:
    found_errors[STEP_SIZES] = distance(found, exact, STEP_SIZES)
  if first_order is not None:
    names = [name for name in exact if name.startswith("decoder")]
    part = norm({n: exact[n] - first_order[n] for n in names})
    found_errors["decoder_second_order"] = norm({n: found[n] - exact[n] for n in names}) / part
  return found_errors
