"""`--profile=FIRST:LAST` profiles those updates of a run."""

from __future__ import annotations

import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests import tiny_runs
from tests.training.runs import CompiledOnce, tiny_config
from tf_savae.errors import UserError
from tf_savae.training import loop
from tf_savae.training.profile import Profile


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
  with pytest.MonkeyPatch.context() as patch:
    yield CompiledOnce(patch)


def updates_in(run_dir):
  """The numbers of the updates in the one profile of a run, by the marks of its steps."""
  (path,) = run_dir.glob("tensorboard/train/plugins/profile/*/*.xplane.pb")
  found = set()
  for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
    numbers = [key for key, stat in plane.stat_metadata.items() if stat.name == "step_num"]
    steps = {key for key, event in plane.event_metadata.items() if event.name.startswith("train")}
    events = (event for line in plane.lines for event in line.events if event.metadata_id in steps)
    stats = (stat for event in events for stat in event.stats)
    found |= {stat.int64_value for stat in stats if stat.metadata_id in numbers}
  return sorted(found)


def test_these_updates_of_a_run_are_profiled_and_no_others(tmp_path):
  loop.run(tiny_config(tmp_path / "run", model="vae", max_steps=6, profile="3:5"), splits=("test",))
  assert updates_in(tmp_path / "run") == [3, 4, 5]


@pytest.mark.parametrize(
  "updates, done, message",
  [
    ("9:12", 0, "--profile=9:12 is not among the updates to come, 1 to 8; choose some of them"),
    ("1:4", 4, "--profile=1:4 is not among the updates to come, 5 to 8; choose some of them"),
    ("1:4", 8, "--profile=1:4: all 8 updates of the run are done; leave --profile out"),
  ],
)
def test_updates_that_never_come_are_refused_at_once(updates, done, message, tmp_path):
  with pytest.raises(UserError) as caught:
    Profile(tmp_path, updates, done=done, end=8)
  assert str(caught.value) == message


def test_a_run_refuses_them_before_it_trains(tmp_path):
  settings = tiny_config(tmp_path / "run", model="vae", max_steps=6, profile="7:9")
  with pytest.raises(UserError, match="--profile=7:9 is not among the updates to come, 1 to 6"):
    loop.run(settings)


def test_training_that_ends_within_or_before_them_says_so(tmp_path, capfd):
  data, model = tiny_runs.image_data(), tiny_runs.image_model("vae", 0)
  within, before = Profile(tmp_path, "2:9", done=0, end=9), Profile(tmp_path / "none", "7:9", done=0, end=9)
  tiny_runs.fit_epoch(model, data, 0, [within, before], validate=False)
  for profile in (within, before):
    profile.close()
  assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb")) and not (tmp_path / "none").exists()
  assert capfd.readouterr().err.splitlines()[-1:] == [
    "warning: no profile for --profile=7:9: the run ended after update 3"
  ]
