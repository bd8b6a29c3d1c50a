"""Tables at equal processor time: their rows are settings that runs accept, and their tasks come in a fixed order."""

import dataclasses
import json

import pytest

from experiments import comparison, images, text
from experiments.comparison import Files, Task
from tf_savae.errors import UserError
from tf_savae.runs import presets

COMMANDS = {"images": images, "text": text}


def table_of(name, *flags):
  module = COMMANDS[name]
  return module.table(module.COMMAND.parse([name, *flags]))


TABLES = [
  ("text",),
  ("text", "--latent_to=state"),
  ("text", "--dataset=coco"),
  ("text", "--group=rivals"),
  ("images",),
  ("images", "--decoder=late_pixelcnn"),
]
ALL = [(flags, row.key) for flags in TABLES for row in table_of(*flags).rows]


@pytest.mark.parametrize(("flags", "key"), ALL, ids=str)
def test_settings_of_every_row_and_candidate_are_those_of_a_run(flags, key):
  table = table_of(*flags)
  for candidate in range(len(table.candidates)):
    settings = table.run_settings(Task(key, candidate, 1))
    config = presets.make_config(**settings)
    assert config.seed == 1 and config.preset == "small" and config.epochs > 1000
  for changes in table.evaluations(table.row(key)).values():
    evaluated = dataclasses.replace(config, **changes)
    assert evaluated.eval_k == changes.get("eval_k")


def test_every_row_is_tuned_with_equally_many_candidates_and_the_first_is_the_row_as_it_stands():
  for name in COMMANDS:
    candidates = table_of(name).candidates
    assert candidates[0] == {} and len({tuple(c.items()) for c in candidates}) == len(candidates)


def test_text_has_the_rows_of_the_paper_with_both_encoders():
  methods = [row.settings["model"] for row in text.ROWS if row.paper != "–"]
  assert methods.count("vae") == 4 and {"autoreg", "svi", "vae_svi", "vae_svi_kl", "savae"} < set(methods)
  keys = {row.key for row in text.ROWS}
  assert {key.removesuffix("-lstm") for key in keys if key.endswith("-lstm")} == {
    key.removesuffix("-bow") for key in keys if key.endswith("-bow")
  }


def carry_out(table, files, bound):
  """Does what is open until nothing is; returns the tasks in order."""
  done = []
  while tasks := comparison.open_tasks(table, files):
    task = tasks[0]
    done.append(task)
    if task.is_trial:
      write(files.trial(task), {"valid_bound": bound(task)})
    else:
      for key, changes in table.evaluations(table.row(task.row)).items():
        about = comparison.about(table, task, changes)
        write(files.result(key, task.seed), {"about": about, "candidate": task.candidate})
  return done


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def test_the_first_seed_of_all_rows_comes_before_the_second(tmp_path):
  table = table_of("text", "--only=vae-bow,autoreg", "--seeds=2")
  done = carry_out(table, Files(tmp_path), None)
  assert [(task.row, task.seed) for task in done] == [
    ("vae-bow", 0),
    ("autoreg", 0),
    ("vae-bow", 1),
    ("autoreg", 1),
  ]
  assert len(done) == comparison.total(table)


def test_a_search_comes_first_and_validation_chooses_what_all_seeds_are_trained_with(tmp_path):
  table, files = table_of("images", "--only=vae", "--seeds=2", "--tune"), Files(tmp_path)
  done = carry_out(table, files, lambda task: abs(task.candidate - 3))
  num = len(table.candidates)
  assert [task.is_trial for task in done] == [True] * num + [False] * 2
  assert {task.candidate for task in done[num:]} == {3}
  assert done[3].name == done[num].name  # the training of the search is that of the first seed
  assert len(done) == comparison.total(table)


def test_a_trial_that_fails_is_not_chosen(tmp_path):
  table, files = table_of("images", "--only=vae", "--tune"), Files(tmp_path)
  first, *others = comparison.trials(table, table.row("vae"))
  files.fail(first, "diverged")
  for task in others:
    write(files.trial(task), {"valid_bound": 90.0 + task.candidate})
  assert comparison.candidate_of(table, files, table.row("vae")) == 1


def test_a_directory_goes_on_with_its_own_settings_only(tmp_path):
  files = Files(tmp_path)
  carry_out(table_of("text", "--only=vae-lstm", "--seeds=1"), files, None)
  comparison.check(table_of("text", "--seeds=3"), files)  # more is fine
  comparison.check(table_of("text", "--data_dir=elsewhere"), files)
  for flag, line in (
    ("--budget_s=5", r"vae-lstm\.s0\.json was made with budget=600\.0, now 5\.0; use another --out"),
    ("--iw_samples=7", r"iw_samples=500, now 7"),
    ("--latent_to=state", r"latent_to=softmax, now state"),
  ):
    with pytest.raises(UserError, match=line):
      comparison.check(table_of("text", flag), files)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_row_is_one_line(name, tmp_path, capsys):
  for flag in ("--only=vea", "--reference=vea"):
    assert COMMANDS[name].main([name, f"--out={tmp_path}", flag]) == 2
    err = capsys.readouterr().err
    assert "error: unknown row vea; the rows are autoreg, " in err and err.count("\n") == 1
