"""Where a trained run loses nats: `python -m tf_savae.commands.gaps --run_dir=RUN`.

Splits −ELBO + log p(x) into approximation gap and amortisation gap (Cremer et al. 2018), for any run with a posterior,
and exactly where it has two latents. Prints a table; writes gaps.json, and the values of each example as
gaps_examples.npz, to the run's directory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tf_savae.commands import evaluation_flags as command_line

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae.evaluation import per_example, tables
from tf_savae.files import write_json
from tf_savae.runs.options import number, optional, whole

_ROWS = {
  "bound_initial": "bound at λ_0",
  "bound": "bound at λ_K",
  "bound_best": "bound at λ*",
  "nll": "−log p(x)",
  "amortisation_gap_initial": "amortisation gap of λ_0",
  "amortisation_gap": "amortisation gap of λ_K",
  "approximation_gap": "approximation gap",
  "inference_gap": "inference gap: both, at λ_K",
  "last_half_gain": "still gained by the second half of the search for λ*",
  "true_nll": "−log p(x) under the oracle, by grid",
  "gap_to_truth": "bound at λ_K above that",
}


def main(argv: Sequence[str]) -> int:
  """Runs the command line `argv`, without the program's name; returns the exit status."""
  flags = command_line.Flags(
    "tf_savae.commands.gaps", "Approximation gap and amortisation gap of a trained run.", num=200
  )
  flags.flag("eval_k", None, optional(whole(0)), "SVI steps; default: the run's")
  flags.flag("steps", 1000, whole(2), "steps of Adam that look for λ*, the best posterior of an example")
  flags.flag("learning_rate", 0.1, number(above=0), "of that search at its first step")
  flags.flag("draws", 8, whole(2), "noise draws a step of that search, in pairs: even")
  flags.flag("bound_draws", 200, whole(2), "noise draws of each bound")
  flags.flag("iw_samples", 1000, whole(1), "draws of the importance-sampled likelihood")
  flags.flag("grid_size", 41, whole(5), "two latents: points an axis of the exact grid; odd")
  return command_line.run(flags, argv, _work)


def table(result: Mapping[str, Any]) -> str:
  """The gaps in nats ± standard error over examples; a column more where there is a grid."""
  exact = result.get("grid")
  head = [f"{result['examples']} examples, K = {result['eval_k']}", "estimated, nats"]
  head += ["by grid, nats"] if exact else []
  lines = []
  for name, words in _ROWS.items():
    if name in result or (exact and name in exact):
      columns = [result, exact] if exact else [result]
      lines.append([words, *(_cell(column, name) for column in columns)])
  return tables.markdown(head, lines)


def _cell(column, name):
  if name not in column:
    return "–"
  error = column[f"{name}_se"]
  return f"{column[name]:z.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _work(given: argparse.Namespace) -> None:
  import tqdm

  from tf_savae.errors import UserError
  from tf_savae.evaluation import inference_gap
  from tf_savae.evaluation.optimum import Search
  from tf_savae.networks.oracle_decoder import oracle_decoder
  from tf_savae.runs import restore

  if given.draws % 2 or given.grid_size % 2 == 0:
    raise UserError(
      f"--draws must be even and --grid_size odd; received --draws={given.draws} --grid_size={given.grid_size}"
    )
  changes = {} if given.eval_k is None else {"eval_k": given.eval_k}
  run, data = restore.load_with_data(given.run_dir, given.data_dir, **changes)
  if not run.model.latent_dim:
    raise UserError(
      f"--run_dir={given.run_dir} is a run of --model={run.config.model}, which has no posterior"
    )
  truth = None
  if run.config.dataset == "synthetic":
    truth = run.model.decoder if run.config.generator == "oracle" else oracle_decoder(data.oracle)
  num = min(given.num, data.num_examples(given.split))
  with tqdm.tqdm(total=num, unit="ex", desc=f"gaps on {given.split}", disable=None) as bar:
    rows = inference_gap.per_example(
      run.model,
      data,
      given.split,
      num,
      given.batch_size,
      Search(given.steps, given.draws, given.learning_rate),
      bound_draws=given.bound_draws,
      iw_samples=given.iw_samples,
      grid_size=given.grid_size,
      true_decoder=truth,
      progress=bar.update,
    )
  settings = ("split", "steps", "learning_rate", "draws", "bound_draws", "iw_samples")
  result = {
    "model": run.config.model,
    "dataset_source": data.source,
    "eval_k": run.model.eval_k,
    **{name: getattr(given, name) for name in settings},
    **inference_gap.summary(rows),
  }
  per_example.save(given.run_dir / "gaps_examples.npz", rows)
  write_json(given.run_dir / "gaps.json", result)
  print(f"{table(result)}\n\nwritten to {given.run_dir / 'gaps.json'}", flush=True)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
