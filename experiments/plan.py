"""Which trials the synthetic table needs, in which order, and what a search chose. No TensorFlow.

The search for a row and column uses the first oracle and training seed, and validation data. The chosen settings are
then trained with all other oracles and seeds and evaluated on test data. A plan holds no state: it is told each time
which trials are done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from experiments import rows as rows_lib
from experiments.rows import COLUMNS, Budget, Row
from experiments.trials import FIRST_READING, SECOND_READING, Trial

# (trial, split) → mean −ELBO; infinity where it failed, None where it is not done.
Bound = Callable[[Trial, str], float | None]


@dataclasses.dataclass(frozen=True)
class Evaluate:
  """A trial to train, where it is not trained, and to evaluate on `split`; `after`: where its weights begin."""

  trial: Trial
  split: str
  after: Trial | None = None


@dataclasses.dataclass(frozen=True)
class Truth:
  """The truth about the test points of an oracle."""

  reading: str
  data_seed: int


Task = Evaluate | Truth


@dataclasses.dataclass(frozen=True)
class Plan:
  """The trials of some rows.

  Attributes:
    rows: rows in the order of the table, each together with the one that it is `after`.
    budget: sizes of the experiment.
    oracle_seeds, seeds: number of each.
  """

  rows: tuple[Row, ...]
  budget: Budget
  oracle_seeds: int
  seeds: int

  def searched(self, row: Row, column: str) -> list[Trial]:
    """The trials of a search; empty for a row without a search."""
    candidates = rows_lib.candidates(row, self.budget)
    return [Trial(row.key, c, column) for c in candidates] if len(candidates) > 1 else []

  def chosen(self, row: Row, column: str, bound: Bound) -> int | None:
    """The candidate with the best validation bound; None while the search is not over."""
    bounds = [bound(trial, "valid") for trial in self.searched(row, column)]
    if None in bounds:
      return None
    return min(range(len(bounds)), key=bounds.__getitem__, default=0)

  def places(self, row: Row, column: str) -> list[tuple[str, int, int]]:
    """(reading, data seed, training seed) of a column's models that are evaluated on test data."""
    if row.part == "beyond":
      return [(FIRST_READING, 0, s) for s in range(self.seeds)]
    if row.part != "table":
      return [(FIRST_READING, 0, 0)]
    # All training seeds with the first oracle, one with each other: oracles and seeds differ in how much they vary.
    places = [(FIRST_READING, 0, s) for s in range(self.seeds)]
    places += [(FIRST_READING, d, 0) for d in range(1, self.oracle_seeds)]
    if row.second_reading and column == COLUMNS[0]:  # with what was chosen on the first one
      places.append((SECOND_READING, 0, 0))
    return places

  def finals(self, row: Row, column: str, bound: Bound) -> list[Trial] | None:
    """The trials that are evaluated on test data; None while the search is not over."""
    candidate = self.chosen(row, column, bound)
    if candidate is None:
      return None
    return [Trial(row.key, candidate, column, *place) for place in self.places(row, column)]

  def truths(self) -> list[Truth]:
    """All oracles."""
    places = {place[:2] for row in self.rows for column in row.columns for place in self.places(row, column)}
    return [Truth(*place) for place in sorted(places)]

  def total(self) -> int:
    """How many tasks there are."""
    of_rows = (
      len(self.searched(row, column)) + len(self.places(row, column))
      for row in self.rows
      for column in row.columns
    )
    return len(self.truths()) + sum(of_rows)

  def open(self, bound: Bound, has_truth: Callable[[Truth], bool]) -> list[Task]:
    """The tasks that are not done but can be done now, in the order in which they should be done.

    The truth comes first, then rows that others wait for, with searches before the trials that they decide. The second
    reading follows, and rows with one model each come last.
    """
    waited_for = {row.after for row in self.rows}
    rows = sorted(self.rows, key=lambda row: (row.part != "table", row.key not in waited_for))
    by_key = {row.key: row for row in self.rows}
    searches, finals = [], []
    for row in rows:
      for column in row.columns:
        searches += [(trial, "valid") for trial in self.searched(row, column)]
        finals += [(trial, "test") for trial in self.finals(row, column, bound) or []]
    found: list[Task] = []
    for trial, split in [*searches, *finals]:
      if bound(trial, split) is None:
        waits_for, after = self._warm_start(trial, bound)
        if not waits_for:
          found.append(Evaluate(trial, split, after))
    truths = [truth for truth in self.truths() if not has_truth(truth)]
    alone = [task for task in found if by_key[task.trial.row].part not in ("table", "beyond")]
    # Half-way, too, there is a table of gaps; what takes longest, z within the recurrence, is not left for the end,
    # where a worker may have nothing else to do.
    return sorted([*truths, *found], key=lambda task: (task in alone, _reading(task) != FIRST_READING))

  def _warm_start(self, trial: Trial, bound: Bound) -> tuple[bool, Trial | None]:
    """Whether the trial has to wait, and the trial whose weights it starts with.

    A trial that starts with the weights of one that failed does not wait, but fails, too.
    """
    by_key = {row.key: row for row in self.rows}
    key = by_key[trial.row].after
    if key is None:
      return False, None
    candidate = self.chosen(by_key[key], trial.column, bound)
    if candidate is None:
      return True, None
    after = dataclasses.replace(trial, row=key, candidate=candidate)
    return bound(after, "valid") is None and bound(after, "test") is None, after


def _reading(task: Task) -> str:
  return task.reading if isinstance(task, Truth) else task.trial.reading


def select(keys: Sequence[str] | None) -> tuple[Row, ...]:
  """The rows of these keys, and those that they are `after`, in the order of the table; None: all but part "data".

  Raises:
    UserError: a key that no row has.
  """
  if keys is None:
    return tuple(row for row in rows_lib.ROWS if row.part != "data")
  wanted = {rows_lib.get(key).key for key in keys}
  for row in reversed(rows_lib.ROWS):  # a row stands after the one that it begins with
    if row.key in wanted and row.after:
      wanted.add(row.after)
  return tuple(row for row in rows_lib.ROWS if row.key in wanted)
