"""Quality against processor time: settings that runs accept, times to a bound, and the page."""

import pytest

from benchmarks import quality
from experiments.comparison import Files, Task
from tf_savae.atomic_files import write_json
from tf_savae.errors import UserError
from tf_savae.runs import presets


def table_of(*flags):
  return quality.table(quality.COMMAND.parse(["quality", *flags]))


@pytest.mark.parametrize(("workload", "key"), [(w, row.key) for w in quality.ROWS for row in quality.ROWS[w]])
def test_settings_of_every_row_are_those_of_a_run(workload, key):
  table = table_of(f"--workload={workload}", "--budget_s=60")
  config = presets.make_config(**table.run_settings(Task(key, 0, 2)))
  assert config.seed == 2 and config.preset == "small"
  assert table.curve[-1] == 60.0 and len(table.curve) == 10
  assert table.row(table.reference) and table.row(quality.BASE[workload])


def test_the_row_in_pytorch_has_our_settings_and_is_done_only_where_pytorch_is():
  for workload, base in quality.BASE.items():
    table = table_of(f"--workload={workload}", "--torch_python=python")
    assert table.row(quality.PEER).settings == table.row(base).settings
    assert table.wanted[0].key == quality.PEER
  assert quality.PEER not in [row.key for row in table_of("--workload=text").wanted]
  with pytest.raises(UserError, match="needs --torch_python"):
    table_of("--workload=text", "--only=vae-lstm,paper-torch")
  assert table_of("--workload=text", "--only=paper-torch", "--jobs=0").wanted


def test_a_bound_is_reached_between_two_points():
  points = [(10.0, 120.0, 0.0), (20.0, 110.0, 0.0), (40.0, 100.0, 0.0)]
  assert quality.seconds_to(points, 105.0) == 30.0
  assert quality.seconds_to(points, 100.0) == 40.0
  assert quality.seconds_to(points, 130.0) == 10.0
  assert quality.seconds_to(points, 99.0) is None


def test_the_page_has_the_last_points_and_how_much_sooner_the_bound_is_reached():
  def curve(*values):
    return [(10.0 * (i + 1), value, 0.1) for i, value in enumerate(values)]

  found = {
    "savae-plain": {
      "name": "plain",
      "seeds": 1,
      "nll_bound": curve(130, 120, 110, 100),
      "nll_iw": curve(99, 99, 99, 99),
    },
    "vae": {"name": "VAE", "seeds": 1, "nll_bound": curve(100, 90, 85, 80), "nll_iw": curve(1, 1, 1, 2.5)},
    "slow": {"name": "slow", "seeds": 1, "nll_bound": curve(140, 130, 120, 110), "nll_iw": curve(1, 1, 1, 1)},
  }
  page = quality.page(table_of("--workload=image"), found, "image")
  assert "| plain | 1 | – | 100.00 | 99.00 | 40.0 | 1.0 |" in page
  assert "| VAE | 1 | – | 80.00 | 2.50 | ≤ 10.0 | ≥ 4.0 |" in page
  assert "| slow | 1 | – | 110.00 | 1.00 | – | – |" in page
  assert "The bound to reach is 100.00 nats" in page and "PyTorch was not trained here" in page

  peer = {"name": "peer", "seeds": 1, "nll_bound": curve(150, 140, 130, 110), "nll_iw": curve(1, 1, 1, 1)}
  page = quality.page(table_of("--workload=image"), {quality.PEER: peer, **found}, "image")
  assert "| plain | 1 | – | 100.00 | 99.00 | 30.0 | 1.3 |" in page
  assert "The bound to reach is 110.00 nats" in page and "not trained" not in page


def test_a_curve_after_another_training_counts_its_time(tmp_path):
  table = table_of("--workload=text", "--budget_s=90")
  files = Files(tmp_path)
  point = {"seconds": 5.0, "step": 3, "nll_bound": 2.0, "nll_iw": 1.0}
  for key in ("savae-k2-lstm", "savae-k2-after-vae-lstm"):
    files.result(key, 0).parent.mkdir(exist_ok=True)
    write_json(files.result(key, 0), {"curve": [point]})
  found = quality.curves(table, files)
  assert found["savae-k2-lstm"]["nll_bound"] == [(5.0, 2.0, 0.0)]
  assert found["savae-k2-after-vae-lstm"]["nll_bound"] == [pytest.approx((35.0, 2.0, 0.0))]


@pytest.mark.slow
def test_the_whole_command(tmp_path, capsys):
  flags = [f"--out={tmp_path}", "--workload=synthetic", "--preset=tiny", "--seeds=1", "--budget_s=0.01"]
  assert quality.main(["quality", *flags, "--only=savae-plain,vae"]) == 0
  text = capsys.readouterr().out
  assert "| SA-VAE K=20, plain steps | 1 | " in text and "| VAE | 1 | " in text and "FAILED" not in text
  for name in ("quality.md", "quality.png", "curves.json", "table.md"):
    assert (tmp_path / name).exists()
