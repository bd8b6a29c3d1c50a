"""One JSON line about a training step in PyTorch, with the keys of `benchmarks.step`:

    python -m benchmarks.peers.step --workload=image --algorithm=hvp --k=5 --batch=10

The step has what ours has: refinement, gradients, clipping, optimiser. With --point, a file that
`benchmarks.gradients` wrote, it takes weights, batch, noise and settings from there and --dump writes the loss and
all gradients.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import resource
import statistics
import time

import numpy as np
import torch

from benchmarks import points, workloads
from benchmarks.peers import image, layout, refinement, sequence


def main() -> None:
  args = _arguments()
  torch.set_num_threads(args.threads)
  torch.set_default_dtype(getattr(torch, args.dtype))
  torch.manual_seed(0)
  paper = workloads.as_in_paper(args.workload, args.sizes)
  config = workloads.config_of(args.workload, args.batch, args.sizes, k=args.k, **paper)
  if args.point:
    config = dataclasses.replace(config, dropout=0.0)
  model = build(config, args)
  result = _at_point(model, args) if args.point else _measure(model, config, args)
  print(json.dumps(result), flush=True)


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
  parser.add_argument("--workload", choices=list(workloads.WORKLOADS), default="image")
  parser.add_argument("--algorithm", choices=refinement.ALGORITHMS, default="hvp")
  parser.add_argument("--k", type=int, default=5, help="SVI steps")
  parser.add_argument("--batch", type=int, default=None, help="examples per step")
  parser.add_argument("--tokens", type=int, default=80, help="text: tokens of every document")
  parser.add_argument("--steps", type=int, default=5, help="timed steps")
  parser.add_argument("--threads", type=int, default=1, help="threads within an operation")
  parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
  parser.add_argument("--sizes", choices=["paper", "small", "tiny"], default="paper", help="of the networks")
  parser.add_argument("--radius", type=float, default=1e-5, help="r of the finite differences")
  parser.add_argument("--lstm", choices=sequence.LSTMS, default="fused", help="how the decoder's LSTM runs")
  parser.add_argument("--memory_format", choices=["channels_last", "contiguous"], default="channels_last")
  parser.add_argument("--compile", action="store_true", help="torch.compile, finite differences only")
  parser.add_argument(
    "--point", default=None, help="weights, batch, noise and settings, of benchmarks.gradients"
  )
  parser.add_argument("--dump", default=None, help="with --point: where the gradients go")
  parser.set_defaults(vocabulary=None)
  args = parser.parse_args()
  if args.compile and args.algorithm != "finite_difference":
    parser.error("--compile: torch.compile cannot be differentiated twice; take finite differences")
  if (args.point is None) != (args.dump is None):
    parser.error("--point and --dump go together")
  return args


def build(config, args) -> refinement.Model:
  """The networks of a workload, at random weights of the right size.

  Args:
    config: of the run.
    args: `lstm`, `memory_format`, `compile`, and `vocabulary`, the number of token ids, None for the workload's.
  """
  encoder, decoder = _NETWORKS[config.kind](config, args)
  return refinement.Model(encoder, decoder, torch.compile(decoder) if args.compile else decoder)


def _of_images(config, args):
  side = workloads.IMAGE_SIDE
  encoder = image.Encoder(config.latent_dim, config.encoder_channels, side)
  decoder = image.Decoder(
    config.latent_dim,
    config.decoder_channels,
    config.decoder_kernels,
    config.latent_maps,
    side,
    config.position_maps,
  )
  for network in (encoder, decoder):
    _initialise(network, None)
    if args.memory_format == "channels_last":
      network.to(memory_format=torch.channels_last)
  return encoder, decoder


def _of_sequences(config, args, padded=False):
  vocabulary = args.vocabulary or workloads.vocabulary_size(config)
  sizes = (vocabulary, config.latent_dim, config.embedding_dim, config.hidden_dim)
  encoder = sequence.Encoder(*sizes, padded=padded)
  decoder = sequence.Decoder(*sizes, padded=padded, dropout=config.dropout, lstm=args.lstm)
  for network in (encoder, decoder):
    _initialise(network, config.init_scale)
  return encoder, decoder


_NETWORKS = {
  "image": _of_images,
  "tokens": _of_sequences,
  "text": functools.partial(_of_sequences, padded=True),
}


def _initialise(network, scale):
  """U(−scale, scale); without a scale Glorot's for kernels and 0 for biases, but for normalisation's 1 and 0."""
  norms = {id(m.weight) for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)}
  for parameter in network.parameters():
    if scale is not None:
      torch.nn.init.uniform_(parameter, -scale, scale)
    elif parameter.dim() > 1:
      torch.nn.init.xavier_uniform_(parameter)
    elif id(parameter) not in norms:
      torch.nn.init.zeros_(parameter)


def prepared(x: np.ndarray, kind: str, memory_format: str) -> torch.Tensor:
  """A batch in PyTorch's layout: tokens as int64; images as floats, channels first."""
  if kind != "image":
    return torch.as_tensor(x, dtype=torch.int64)
  x = torch.as_tensor(x, dtype=torch.get_default_dtype()).permute(0, 3, 1, 2)
  if memory_format == "channels_last":
    return x.contiguous(memory_format=torch.channels_last)
  return x.contiguous()


def _of_batch(x, args):
  return prepared(x, args.workload, args.memory_format)


def _at_point(model, args):
  point = points.read(args.point)
  layout.load(model.encoder, point.weights("encoder"))
  layout.load(model.decoder, point.weights("decoder"))
  step_sizes = torch.as_tensor(point.step_sizes, dtype=torch.get_default_dtype()).requires_grad_()
  settings = refinement.Settings(step_sizes, point.momentum, point.clip_norm, point.beta, args.radius)
  noise = torch.as_tensor(point.noise, dtype=torch.get_default_dtype())
  loss, at_start = refinement.gradients(model, _of_batch(point.x, args), noise, settings, args.algorithm)
  points.write_gradients(
    args.dump,
    float(loss),
    [part.numpy() for part in at_start],
    layout.gradients(model.encoder),
    layout.gradients(model.decoder),
    step_sizes.grad.numpy(),
  )
  return {"workload": args.workload, "adjoint": args.algorithm, "loss": float(loss)}


def _measure(model, config, args):
  settings = refinement.Settings(
    [config.svi_lr] * config.k,
    config.svi_momentum,
    config.svi_clip,
    workloads.first_beta(config),
    args.radius,
  )
  x = _of_batch(_random_batch(config, args.tokens), args)
  parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
  optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer](
    parameters, config.learning_rate
  )

  def step():
    optimizer.zero_grad(set_to_none=True)
    noise = torch.randn(config.k + 1, config.batch_size, config.latent_dim)
    loss, _ = refinement.gradients(model, x, noise, settings, args.algorithm)
    if config.outer_clip is not None:
      torch.nn.utils.clip_grad_norm_(parameters, config.outer_clip)
    optimizer.step()
    return float(loss)

  start = time.perf_counter()
  step()
  first = time.perf_counter() - start
  seconds, cpu = [], []
  for _ in range(args.steps):
    start, cpu_start = time.perf_counter(), time.process_time()
    loss = step()
    seconds.append(time.perf_counter() - start)
    cpu.append(time.process_time() - cpu_start)
  return {
    "workload": args.workload,
    "method": config.model,
    "adjoint": args.algorithm,
    "k": config.k,
    "batch": config.batch_size,
    "decoder": config.decoder_name,
    "threads": args.threads,
    "jit_compile": args.compile,
    "step_seconds": round(statistics.median(seconds), 4),
    "step_seconds_min": round(min(seconds), 4),
    "step_seconds_max": round(max(seconds), 4),
    "step_cpu_seconds": round(statistics.median(cpu), 4),
    "trace_seconds": 0.0,  # nothing is traced
    "trace_and_first_step_seconds": round(first, 2),
    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "graph_nodes": 0,
    "steps": args.steps,
    "loss": loss,
  }


def _random_batch(config, num_tokens):
  return _BATCHES[config.kind](config, num_tokens, np.random.default_rng(0))


def _random_images(config, _, rng):
  return rng.random([config.batch_size, workloads.IMAGE_SIDE, workloads.IMAGE_SIDE, 1]) < 0.3


def _random_tokens(config, _, rng):
  return rng.integers(workloads.SYNTHETIC_VOCABULARY, size=[config.batch_size, workloads.SYNTHETIC_LENGTH])


def _random_documents(config, num_tokens, rng):
  words = rng.integers(4, workloads.vocabulary_size(config), size=[config.batch_size, num_tokens])
  words[:, -1] = 2  # END
  return words


_BATCHES = {"image": _random_images, "tokens": _random_tokens, "text": _random_documents}


if __name__ == "__main__":
  main()
