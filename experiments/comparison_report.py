"""Writes the page of a table: table.md, results.json, and what the figure shows. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import origin
from experiments.comparison import Files, Row, Table, candidate_of, trials
from tf_savae.atomic_files import atomic_write_text, read_json, write_json
from tf_savae.evaluation import estimates, per_example
from tf_savae.evaluation.tables import markdown

_NATS = ("nll_bound_initial", "nll_bound", "nll_iw", "kl_initial", "kl")
_PERPLEXITIES = ("ppl_bound_initial", "ppl_bound", "ppl_iw")
_STOPPED_BY = {"callback": "time", "early_stop_patience": "patience", "min_learning_rate": "learning rate"}


def collect(table: Table, files: Files) -> dict[str, Any]:
  """All results as JSON values; `page` and the figure show them."""
  made = origin.read(files.out)
  columns = {} if made is None else made.columns
  cells = []
  for row in table.rows:
    for key in table.evaluations(row):
      found = [read_json(files.result(key, seed)) for seed in range(table.seeds)]
      found = [one for one in found if one is not None]
      cells.append(_cell(table, files, row, key, found) | _means(found, columns.values()))
  how = {"command": table.command} if made is None else {"origin": dataclasses.asdict(made)}
  return {
    "title": table.title if made is None else made.title,
    **how,
    "preset": table.settings.get("preset"),
    "reference": table.name_of(table.reference),
    "budget": table.budget if made is None else None,
    "seeds": table.seeds,
    "bound_samples": table.bound_samples,
    "iw_samples": table.iw_samples,
    "rows": cells,
    "search": [line for row in table.rows for line in _search(table, files, row)],
    "failed": _failures(files),
  }


def _cell(
  table: Table, files: Files, row: Row, key: str, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """The results of one evaluation of a row, over its seeds."""
  cell: dict[str, Any] = {
    "row": key,
    "name": table.name_of(key),
    "paper": row.paper if key == row.key else "–",
  }
  cell["seeds"] = [one["seed"] for one in found]
  if not found:
    return cell
  for name in (*_NATS, *_PERPLEXITIES):
    values = [one[name] for one in found if one.get(name) is not None]
    if values:
      spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
      cell[name] = {"mean": float(np.mean(values)), "sd_seeds": spread, "each": values}
  for name in ("nll_bound", "nll_iw"):
    cell[f"{name}_difference"] = _difference(files, key, table.reference, cell["seeds"], name)
  cell |= _means(found, ("steps", "update_seconds", "processor_seconds"))
  cell["stopped_by"] = sorted({str(one.get("stopped_by")) for one in found})
  about = ("examples", "test_examples_of_all", "train_examples", "dataset_source", "is_stand_in")
  return cell | {name: found[0][name] for name in about}


def _means(found: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float | None]:
  """The mean of each of these numbers over the seeds; None where no result has it."""
  means: dict[str, float | None] = {}
  for name in names:
    values = [one[name] for one in found if one.get(name) is not None]
    means[name] = float(np.mean(values)) if values else None
  return means


def _difference(
  files: Files, key: str, against: str, seeds: Sequence[int], name: str
) -> dict[str, Any] | None:
  """Mean of `key` minus `against` over the seeds that both have, paired by example, and its uncertainty.

  The standard error is over examples, after averaging each over seeds. `sd_seeds` is the spread of the mean between
  seeds, which says how much another training could change it.
  """
  if key == against:
    return None
  rows = []
  for seed in seeds:
    ours, theirs = (per_example.load(files.values(one, seed)) for one in (key, against))
    if ours is not None and theirs is not None and np.array_equal(ours["digest"], theirs["digest"]):
      rows.append(np.float64(ours[name]) - theirs[name])
  if not rows:
    return None
  value, error = estimates.mean(np.mean(rows, axis=0))
  spread = float(np.std([row.mean() for row in rows], ddof=1)) if len(rows) > 1 else None
  return {"mean": value, "se": error, "sd_seeds": spread, "seeds": len(rows)}


def _search(table: Table, files: Files, row: Row) -> list[dict[str, Any]]:
  tasks = trials(table, row)
  chosen = candidate_of(table, files, row) if tasks else None
  return [
    {
      "row": row.key,
      "name": row.name,
      "settings": dict(table.candidates[task.candidate]),
      "valid_bound": (read_json(files.trial(task)) or {}).get("valid_bound"),
      "chosen": task.candidate == chosen,
    }
    for task in tasks
  ]


def _failures(files: Files) -> dict[str, str]:
  found = sorted((files.out / "failures").glob("*.json"))
  return {path.stem: str((read_json(path) or {}).get("reason")) for path in found}


def write(table: Table, files: Files) -> dict[str, Any]:
  """Writes results.json and table.md from the results so far; returns what `collect` found.

  Raises:
    UserError: a file is damaged or cannot be written.
  """
  found = collect(table, files)
  write_json(files.out / "results.json", found)
  atomic_write_text(files.out / "table.md", page(found) + "\n")
  return found


def page(found: Mapping[str, Any]) -> str:
  """The page in Markdown, from `collect`."""
  done = [cell for cell in found["rows"] if cell["seeds"]]
  if not done:
    return f"# {found['title']}\n\nNothing is done yet."
  text = any("ppl_iw" in cell for cell in done)
  columns = found["origin"]["columns"] if "origin" in found else None
  blocks = [
    f"# {found['title']}",
    _about(found, done),
    markdown(_head(text, columns), [_line(cell, text, columns) for cell in done]),
  ]
  blocks.append(_legend(found, text))
  if missing := [cell["name"] for cell in found["rows"] if not cell["seeds"]]:
    blocks.append("Not done: " + "; ".join(missing) + ".")
  if found["search"]:
    blocks += ["## Search, on validation data of the first seed", _searches(found["search"])]
  if found["failed"]:
    blocks += ["## Failed", "\n".join(f"* {name}: {why}" for name, why in found["failed"].items())]
  return "\n\n".join(block for block in blocks if block)


def _about(found: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> str:
  """What the numbers are about, with its limits."""
  one = done[0]
  stand_in = (
    " **These are generated stand-in data: the numbers say nothing about real ones.**"
    if one["is_stand_in"]
    else ""
  )
  tested = f"{one['examples']:,} test examples"
  if one["examples"] < one["test_examples_of_all"]:
    tested = (
      f"a subset of the test, {one['examples']:,} of {one['test_examples_of_all']:,} examples, spread evenly"
    )
  made, trained = _how(found)
  return (
    f"{made}\n\n"
    f"Data: {one['dataset_source']}; {one['train_examples']:,} training examples and {tested}.{stand_in}\n\n"
    f"{trained} The best epoch by validation is evaluated. The models are those of"
    f" preset `{found['preset']}`, not the paper's, so **the numbers are not comparable with published ones**."
  )


def _how(found: Mapping[str, Any]) -> tuple[str, str]:
  """What made the results, and how long each training was."""
  if "origin" in found:
    return found["origin"]["made"], found["origin"]["trained"]
  budget = f"{found['budget']:g} seconds of processor time in its updates, on one thread"
  time = (
    f"Each training had {budget}"
    if found["budget"]
    else "Each training ended when validation stopped improving"
  )
  return f"Made by `{found['command']}`.", f"{time}. Tracing and validation do not count."


def _head(text: bool, columns: Mapping[str, str] | None) -> list[str]:
  of_text, of_others = ("perplexity bound at λ_0", "perplexity"), ("−ELBO at λ_0, nats", "−log p(x)")
  bound, likelihood = of_text if text else of_others
  return [
    "",
    "seeds",
    bound,
    "at λ_K",
    likelihood,
    "sd over seeds",
    "KL",
    "−ELBO, difference",
    "−log p(x), difference",
    "updates",
    *(["ms per update"] if columns is None else columns),
    "ended by",
    "paper",
  ]


def _line(cell: Mapping[str, Any], text: bool, columns: Mapping[str, str] | None) -> list[str]:
  names = _PERPLEXITIES if text else _NATS[:3]
  ended = ", ".join(_STOPPED_BY.get(name, name) for name in cell["stopped_by"])
  update = cell["update_seconds"]
  costs = ["–" if update is None else f"{1000 * update:.0f}"]
  if columns is not None:
    costs = ["–" if cell[name] is None else f"{cell[name]:.3g}" for name in columns.values()]
  return [
    cell["name"],
    str(len(cell["seeds"])),
    *(_number(cell.get(name)) for name in names),
    _plain(cell[names[-1]]["sd_seeds"]),
    _number(cell.get("kl")),
    _with_error(cell["nll_bound_difference"]),
    _with_error(cell["nll_iw_difference"]),
    f"{cell['steps']:,.0f}",
    *costs,
    ended,
    cell["paper"],
  ]


def _legend(found: Mapping[str, Any], text: bool) -> str:
  of = "Perplexity" if text else "−log p(x)"
  papers = "KL and perplexity bound" if text else "the bound in nats"
  return (
    f"Means over seeds. Bounds have {found['bound_samples']} Gaussian draws per example, in pairs."
    f" {of} is importance-sampled with {found['iw_samples']} draws from q_λK, and exact without a latent. Its standard"
    " deviation is between seeds. KL is in nats at λ_K."
    f" Differences are to **{found['reference']}**, in nats per example. They are paired by example, ± the standard"
    " error over examples; negative is better. A second number after a semicolon is the standard deviation of the"
    f" difference between seeds. The last column is what the paper reports, {papers},"
    " for its own models, steps and data."
  )


def _searches(search: Sequence[Mapping[str, Any]]) -> str:
  lines = []
  for one in search:
    bound = "failed" if one["valid_bound"] is None else f"{one['valid_bound']:.2f}"
    settings = ", ".join(f"{name} {value}" for name, value in one["settings"].items()) or "as in the table"
    lines.append([one["name"], settings, bound, "chosen" if one["chosen"] else ""])
  return markdown(["", "settings", "−ELBO on validation", ""], lines)


def _number(value: Mapping[str, Any] | None) -> str:
  return "–" if value is None else _plain(value["mean"])


def _plain(value: float | None) -> str:
  return "–" if value is None else f"{value:z.2f}"


def _with_error(difference: Mapping[str, Any] | None) -> str:
  if difference is None:
    return "–"
  error = "" if difference["se"] is None else f" ± {difference['se']:.2f}"
  spread = "" if difference["sd_seeds"] is None else f"; {difference['sd_seeds']:.2f}"
  return f"{difference['mean']:+z.2f}{error}{spread}"
