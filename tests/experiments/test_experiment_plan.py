"""The order of the synthetic table's trials, and what its searches choose."""

import math

from experiments import rows
from experiments.plan import Evaluate, Truth, _reading
from experiments.trials import FIRST_READING, SECOND_READING, Trial
from tests.experiments.fabricated import small_plan

VAE, SAVAE = rows.get("vae-adam"), rows.get("savae-repaired")


def carry_out(plan, outcome):
  """Does all that is open, again and again; returns the tasks by round."""
  done, truths, rounds = {}, set(), []

  def bound(trial, split):
    return done.get((trial, split))

  while tasks := plan.open(bound, truths.__contains__):
    rounds.append(tasks)
    for task in tasks:
      if isinstance(task, Truth):
        truths.add(task)
      else:
        done[task.trial, task.split] = outcome(task.trial, task.split)
  return rounds, bound


def test_a_search_chooses_by_validation_and_its_choice_alone_meets_test_data():
  plan = small_plan("vae-adam")
  # On test data another candidate would be the best.
  rounds, bound = carry_out(
    plan, lambda t, split: {"valid": [3, 1, 2], "test": [0, 9, 0]}[split][t.candidate]
  )
  assert plan.chosen(VAE, "oracle", bound) == 1
  tested = [task.trial for tasks in rounds for task in tasks if getattr(task, "split", None) == "test"]
  assert {trial.candidate for trial in tested} == {1}
  assert {task.split for task in rounds[0] if isinstance(task, Evaluate)} == {"valid"}
  searched = [task.trial for task in rounds[0] if isinstance(task, Evaluate)]
  assert {(t.reading, t.data_seed, t.seed) for t in searched} == {(FIRST_READING, 0, 0)}


def test_all_seeds_are_tested_on_one_oracle_and_one_seed_on_the_others_and_on_the_second_reading():
  plan = small_plan("vae-adam", oracle_seeds=3, seeds=2)
  first = [(FIRST_READING, 0, 0), (FIRST_READING, 0, 1), (FIRST_READING, 1, 0), (FIRST_READING, 2, 0)]
  for column, second in (("oracle", [(SECOND_READING, 0, 0)]), ("learned", [])):
    finals = plan.finals(VAE, column, lambda trial, split: 1.0)
    assert [(t.reading, t.data_seed, t.seed) for t in finals] == first + second
  assert len(plan.truths()) == 4


def test_a_warm_start_waits_for_the_run_that_was_chosen_with_its_seeds():
  plan = small_plan("savae-repaired")
  rounds, _ = carry_out(plan, lambda trial, split: [3, 2, 1][trial.candidate])
  order = [task for tasks in rounds for task in tasks if isinstance(task, Evaluate)]
  for task in order:
    if task.trial.row == "savae-repaired":
      assert task.after.row == "vae-adam" and task.after.candidate == 2
      same = ("column", "reading", "data_seed", "seed")
      assert all(getattr(task.after, name) == getattr(task.trial, name) for name in same)
      earlier = [one.trial for tasks in rounds for one in tasks if isinstance(one, Evaluate)]
      assert earlier.index(task.after) < earlier.index(task.trial)
  assert not any(t.trial.row == "savae-repaired" for t in rounds[0] if isinstance(t, Evaluate))


def test_a_plan_has_as_many_tasks_as_it_says_and_ends():
  plan = small_plan("savae-repaired", "svi-paper", "ablation-warm", "train-k0", oracle_seeds=2, seeds=2)
  rounds, bound = carry_out(plan, lambda trial, split: 1.0)
  tasks = [task for tasks in rounds for task in tasks]
  assert len(set(tasks)) == len(tasks) == plan.total()
  assert plan.open(bound, lambda truth: True) == []


def test_rows_with_one_model_come_after_the_second_reading():
  plan = small_plan("vae-adam", "ablation-paper", oracle_seeds=1, seeds=1)
  tasks = plan.open(lambda trial, split: 1.0 if split == "valid" else None, lambda truth: False)
  kinds = [
    (isinstance(task, Evaluate) and task.trial.row == "ablation-paper", _reading(task) == SECOND_READING)
    for task in tasks
  ]
  assert kinds == sorted(kinds) and len(set(kinds)) == 3


def test_a_candidate_that_fails_is_not_chosen_and_a_row_that_fails_stops_nothing():
  plan = small_plan("savae-repaired", oracle_seeds=1, seeds=1)
  _, bound = carry_out(plan, lambda trial, split: math.inf if trial.candidate == 0 else 5.0)
  assert plan.chosen(VAE, "oracle", bound) == 1
  rounds, bound = carry_out(plan, lambda trial, split: math.inf)
  assert sum(map(len, rounds)) == plan.total()
  assert plan.finals(SAVAE, "oracle", bound)[0] == Trial("savae-repaired", 0, "oracle")
