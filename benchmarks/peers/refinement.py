"""One training step of SA-VAE in PyTorch: K steps of SVI and the total derivative of L(λ_K), by three algorithms.

The recursion is that of tf_savae.svi.adjoint, per example as there:

    b ← b + α a      u ← −(∂clip/∂g at g_k)ᵀ b      a ← a + ∇²_λλ L(λ_k) u      θ̄ ← θ̄ + ∂_θ⟨u, ∇_λ L(λ_k)⟩      b ← γ b

U is one forward pass of the decoder.

finite_difference  the paper's: (∇L(λ_k + r u) − ∇L(λ_k)) / r for both products, ∇L(λ_k) kept from the forward sweep
                   for every k, as the original does. 6K + 3 U; memory grows by the size of θ a step.
unrolled           exact: one graph of all K steps, double backward. 6K + 3 U; memory grows by all activations.
hvp                exact: the graph of one step at a time, made again going back. 8K + 3 U.

Finite differences with Σ_k ∇_θ L(λ_k) in one buffer would need constant memory, but in float32 they lose another digit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ALGORITHMS = ("finite_difference", "unrolled", "hvp")
Pair = tuple[Tensor, Tensor]  # something for μ and for log σ²


@dataclasses.dataclass(frozen=True)
class Settings:
  """α of each step, γ, the clip of an example's gradient (None: off), β of the KL, and r of the finite differences.

  Step sizes that are a tensor get a gradient, too.
  """

  step_sizes: Sequence[float] | Tensor
  momentum: float
  clip_norm: float | None
  beta: float
  radius: float = 1e-5


@dataclasses.dataclass(frozen=True)
class Model:
  """Encoder `x -> λ_0`; decoder with `precompute(x)`; `nll(x, z, context)`, the decoder or its compiled form."""

  encoder: torch.nn.Module
  decoder: torch.nn.Module
  nll: Callable[..., Tensor]


def gradients(
  model: Model, x: Tensor, noise: Tensor, settings: Settings, algorithm: str
) -> tuple[Tensor, Pair]:
  """Leaves the gradient of the batch's mean L(λ_K) in the parameters' `grad`.

  Args:
    model: the networks.
    x: observations, batch first.
    noise: ε of the K steps and of the final loss, `[K + 1, batch, latent]`.
    settings: of the refinement.
    algorithm: one of `ALGORITHMS`.

  Returns:
    The loss, and its gradient with respect to λ_0.
  """
  run = _unrolled if algorithm == "unrolled" else _recursive
  return run(model, x, noise, settings, algorithm)


def _unrolled(model, x, noise, settings, algorithm):
  del algorithm
  initial = params = model.encoder(x)
  differentiable, constant = model.decoder.precompute(x)
  context = [*differentiable, *constant]
  velocity = tuple(map(torch.zeros_like, params))
  for alpha, draw in zip(settings.step_sizes, noise, strict=False):
    loss = _neg_elbo(model, x, settings.beta, params, draw, context)
    gradient = torch.autograd.grad(loss, params, create_graph=True)
    params, velocity = _move(params, velocity, gradient, alpha, settings)
  for part in initial:
    part.retain_grad()
  loss = _neg_elbo(model, x, settings.beta, params, noise[-1], context) / x.shape[0]
  loss.backward()
  return loss.detach(), tuple(part.grad for part in initial)


def _recursive(model, x, noise, settings, algorithm):
  initial = model.encoder(x)
  differentiable, constant = model.decoder.precompute(x)
  leaves = [t.detach().requires_grad_() for t in differentiable]
  context = [*leaves, *constant]
  targets = [*leaves, *model.decoder.parameters()]

  def neg_elbo(params, draw):
    return _neg_elbo(model, x, settings.beta, params, draw, context)

  def first_order(params, draw):
    """∇L with respect to λ, and to the targets."""
    params = _leaf(params)
    return _split(_grad(neg_elbo(params, draw), [*params, *targets]))

  differences = algorithm != "hvp"
  step_sizes = [float(size) for size in settings.step_sizes]
  velocities = []
  params = tuple(part.detach() for part in initial)
  velocity = tuple(map(torch.zeros_like, params))
  visited, by_params, by_targets = [], [], []
  summed = [torch.zeros_like(t) for t in targets]
  for alpha, draw in zip(step_sizes, noise, strict=False):
    if differences:
      gradient, of_targets = first_order(params, draw)
      by_targets.append(of_targets)
    else:
      leaf = _leaf(params)
      gradient = torch.autograd.grad(neg_elbo(leaf, draw), leaf)
    visited.append(params)
    by_params.append(gradient)
    params, velocity = _move(params, velocity, gradient, alpha, settings)
    velocities.append(velocity)

  leaf = _leaf(params)
  loss = neg_elbo(leaf, noise[-1]) / x.shape[0]
  a, of_targets = _split(_grad(loss, [*leaf, *targets]))
  torch._foreach_add_(summed, of_targets)

  b = tuple(map(torch.zeros_like, a))
  slopes = [torch.zeros(())] * len(step_sizes)  # of the step sizes
  for k in reversed(range(len(step_sizes))):
    slopes[k] = sum(torch.sum(p * v) for p, v in zip(a, velocities[k], strict=True))
    b = tuple(v + step_sizes[k] * p for v, p in zip(b, a, strict=True))
    u = _clip_transpose(by_params[k], b, settings.clip_norm)
    if differences:
      moved = tuple(p + settings.radius * v for p, v in zip(visited[k], u, strict=True))
      products, of_targets = first_order(moved, noise[k])
      products = [(p - q) / settings.radius for p, q in zip(products, by_params[k], strict=True)]
      # Not in place: autograd hands out one tensor as the gradient of several.
      of_targets = torch._foreach_sub(of_targets, by_targets.pop())
      torch._foreach_add_(summed, of_targets, alpha=1.0 / settings.radius)
    else:
      leaf = _leaf(visited[k])
      gradient = torch.autograd.grad(neg_elbo(leaf, noise[k]), leaf, create_graph=True)
      product = sum(torch.sum(v * g) for v, g in zip(u, gradient, strict=True))
      products, of_targets = _split(_grad(product, [*leaf, *targets]))
      torch._foreach_add_(summed, of_targets)
    a = tuple(v + p for v, p in zip(a, products, strict=True))
    b = tuple(settings.momentum * v for v in b)

  split = len(leaves)
  torch.autograd.backward([*initial, *differentiable], [*a, *summed[:split]])
  if isinstance(settings.step_sizes, Tensor) and settings.step_sizes.requires_grad:
    settings.step_sizes.backward(torch.stack(slopes))
  for parameter, gradient in zip(model.decoder.parameters(), summed[split:], strict=True):
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
  return loss.detach(), a


def _neg_elbo(model, x, beta, params, noise, context):
  """Σ_i L_i(λ): rows do not depend on one another, so its gradient holds each row's."""
  mean, log_var = params
  z = mean + torch.exp(0.5 * log_var) * noise
  kl = 0.5 * torch.sum(mean * mean + torch.expm1(log_var) - log_var)
  return model.nll(x, z, context) + beta * kl


def _move(params, velocity, gradient, alpha, settings):
  clipped = clip(gradient, settings.clip_norm)
  velocity = tuple(settings.momentum * v - c for v, c in zip(velocity, clipped, strict=True))
  return tuple(p + alpha * v for p, v in zip(params, velocity, strict=True)), velocity


def clip(gradient: Pair, clip_norm: float | None) -> Pair:
  """Each example's gradient scaled to norm `clip_norm` where it is longer, for μ and log σ² separately."""
  if clip_norm is None:
    return gradient

  def rows(g):
    square = torch.sum(g * g, dim=1, keepdim=True).clamp(min=torch.finfo(g.dtype).tiny)
    return g * torch.clamp(clip_norm / torch.sqrt(square), max=1.0)

  return tuple(map(rows, gradient))


def _clip_transpose(gradient, b, clip_norm):
  if clip_norm is None:
    return tuple(-v for v in b)
  leaf = _leaf(gradient)
  return torch.autograd.grad(clip(leaf, clip_norm), leaf, [-v for v in b])


def _leaf(tensors):
  return tuple(t.detach().requires_grad_() for t in tensors)


def _grad(value, sources):
  """Zeros where `value` does not depend on a source."""
  found = torch.autograd.grad(value, sources, allow_unused=True)
  return [torch.zeros_like(s) if g is None else g for g, s in zip(found, sources, strict=True)]


def _split(tensors):
  return tuple(tensors[:2]), list(tensors[2:])
