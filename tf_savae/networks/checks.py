"""Checks of the sizes and arguments of networks."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_savae.errors import UserError


def check(condition: bool, what: str, received: Any, remedy: str) -> None:
  """Raises UserError("`what`, received `received`: `remedy`") unless `condition`."""
  if not condition:
    raise UserError(f"{what}, received {received!r}: {remedy}")


def check_sizes(**sizes: int) -> None:
  """Raises UserError for a size that is not positive."""
  for name, size in sizes.items():
    check(size >= 1, f"{name} must be at least 1", size, "give a positive size")


def check_binary(data: Any, decoder: str) -> None:
  """Raises UserError for a decoder of binary images unless `data` are such."""
  if getattr(data, "pixels", "binary") != "binary":
    raise UserError(
      f"--decoder={decoder} is of binary images, and {data.name} has grey values or colour; use --decoder=conv, mlp"
      " or pixelcnn, or binary images, such as with --image_channels=binary"
    )


def latent_rows(
  z: Any, num: int | tf.Tensor | None, latent_dim: int, dtype: str
) -> tuple[tf.Tensor | None, tf.Tensor]:
  """z as a tensor of `dtype`, or None, and the number of samples asked for, a scalar int32 tensor.

  Raises:
    UserError: z and num do not fit a decoder with this `latent_dim`.
  """
  if latent_dim:
    check(z is not None, f"this decoder samples given z [batch, {latent_dim}]", z, "pass z")
    z = tf.cast(z, dtype)
    fits = z.shape.is_compatible_with([None, latent_dim])
    check(fits, f"z must be [batch, {latent_dim}]", tuple(z.shape), "pass one row per sample")
    return z, tf.shape(z)[0]
  check(z is None, "this decoder has no latent: z must be None", type(z).__name__, "leave z out")
  check(num is not None, "without z the number of samples must be given", num, "pass num")
  return None, tf.convert_to_tensor(num, tf.int32)
