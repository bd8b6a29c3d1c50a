"""Trains the peer as a run of ours is trained: `python -m benchmarks.peers.training --job=JOB.npz --out=FOLDER`.

`benchmarks.peer_training` writes the job: settings, initial weights and batches. The algorithm is the paper's: plain
steps and finite differences. β warms up, step sizes learn, and gradients are clipped as there. The learning rate stays.

At given seconds of processor time the weights are written, by our names and in our layout. As in
`experiments.processor_time`, updates alone count, and the first of them counts as a median one.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import time
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.peers import layout, refinement, sequence, step
from tf_savae.runs.config import RunConfig
from tf_savae.runs.presets import make_config


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
  parser.add_argument("--job", required=True, help="file of benchmarks.peer_training")
  parser.add_argument("--out", required=True, help="folder of the weights")
  parser.add_argument("--radius", type=float, default=1e-5, help="r of the finite differences")
  parser.add_argument("--lstm", choices=sequence.LSTMS, default="fused", help="how the decoder's LSTM runs")
  args = parser.parse_args()
  torch.set_num_threads(1)
  with np.load(args.job) as job:
    Training(job, args.lstm, args.radius).run(pathlib.Path(args.out))


class Training:
  """A training of the peer.

  Args:
    job: "about", a JSON text with `settings`, `budget`, `times`, `vocabulary`, `warmup_steps` and `batches`; weights
      as "encoder/…" and "decoder/…"; "step_sizes"; and "batch_0" and so on, which repeat after the last.
    lstm: how the decoder's LSTM runs.
    radius: of the finite differences.
  """

  def __init__(self, job: Mapping[str, np.ndarray], lstm: str, radius: float):
    self._job, self._radius = job, radius
    self._about: dict[str, Any] = json.loads(str(job["about"]))
    self._config: RunConfig = make_config(**self._about["settings"])
    torch.manual_seed(self._config.seed)
    options = types.SimpleNamespace(
      lstm=lstm, memory_format="channels_last", compile=False, vocabulary=self._about["vocabulary"]
    )
    self._model = step.build(self._config, options)
    for name in ("encoder", "decoder"):
      prefix = f"{name}/"
      weights = {n.removeprefix(prefix): job[n] for n in job if n.startswith(prefix)}
      layout.load(getattr(self._model, name), weights)
    self._log_sizes = torch.from_numpy(np.log(job["step_sizes"])).requires_grad_()
    networks = [*self._model.encoder.parameters(), *self._model.decoder.parameters()]
    learns = self._config.learn_svi_lr != "none"
    self._parameters = [*networks, self._log_sizes] if learns else networks
    if self._config.optimizer == "adam":  # with Keras's ε
      self._optimizer = torch.optim.Adam(self._parameters, self._config.learning_rate, eps=1e-7)
    else:
      self._optimizer = torch.optim.SGD(self._parameters, self._config.learning_rate)

  def run(self, out: pathlib.Path) -> None:
    """Trains until the budget is used, and writes the weights of each time."""
    out.mkdir(parents=True, exist_ok=True)
    left = list(self._about["times"])
    took: list[float] = []
    for number, x in enumerate(self._batches()):
      took.append(self.update(x, self._beta(number)))
      seconds = counted(took)
      due = [at for at in left if at <= seconds]
      if due:
        left = left[len(due) :]
        for _ in due:  # a slow update may pass several of the times at once
          index = len(self._about["times"]) - len(left) - len(due)
          self._write(out / f"weights_{index}.npz", seconds, number + 1)
          due = due[1:]
      if seconds >= self._about["budget"]:
        return

  def update(self, x: torch.Tensor, beta: float) -> float:
    """One update; the processor time that it took."""
    config, before = self._config, time.process_time()
    self._optimizer.zero_grad(set_to_none=True)
    noise = torch.randn(config.k + 1, x.shape[0], config.latent_dim)
    settings = refinement.Settings(
      self._log_sizes.exp(), config.svi_momentum, config.svi_clip, beta, self._radius
    )
    refinement.gradients(self._model, x, noise, settings, "finite_difference")
    if config.outer_clip is not None:
      torch.nn.utils.clip_grad_norm_(self._parameters, config.outer_clip)
    self._optimizer.step()
    return time.process_time() - before

  def _beta(self, number: int) -> float:
    warmup = self._about["warmup_steps"]
    return min(self._config.beta, self._config.beta_start + number / warmup) if warmup else self._config.beta

  def _batches(self) -> Iterator[torch.Tensor]:
    number = 0
    while True:
      x = self._job[f"batch_{number % self._about['batches']}"]
      yield step.prepared(x, self._config.kind, "channels_last")
      number += 1

  def _write(self, path: pathlib.Path, seconds: float, updates: int) -> None:
    found = {"seconds": np.array(seconds), "updates": np.array(updates)}
    found["log_step_sizes"] = self._log_sizes.detach().numpy()
    for name in ("encoder", "decoder"):
      found |= {f"{name}/{n}": w for n, w in layout.weights(getattr(self._model, name)).items()}
    with open(path, "wb") as file:
      np.savez(file, **found)


def counted(took: list[float]) -> float:
  """Processor time of updates, the first of which counts as a median one."""
  rest = took[1:]
  return sum(rest) + statistics.median(rest) if rest else 0.0


if __name__ == "__main__":
  main()
