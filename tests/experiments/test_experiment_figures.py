"""Figures of the experiment show the numbers they are given; the landscape is −ELBO, and its lowest point is λ*."""

import json

import numpy as np
import pytest
import tensorflow as tf
from matplotlib import colors
from PIL import Image

from experiments import figures, figures_curves, figures_landscape, figures_style
from experiments.figures_curves import Gap, StepCurves, SweepPoint
from experiments.trials import FIRST_READING, truth_file
from tests import tiny
from tf_savae import SAVAE, SVISettings, networks
from tf_savae.errors import UserError
from tf_savae.evaluation import grid
from tf_savae.posterior import GaussianParams


def linear_gaussian():
  """p(x | z) = N(A z + b, I), three observations, λ* of each, and the precision of their posteriors `[2, 2]`."""
  decoder, x = tiny.GaussianDecoder(4, 2, 1.0, dtype="float64"), tiny.normal(3, 4, seed=5)
  kernel = decoder.kernel.numpy()
  precision = np.eye(2) + kernel @ kernel.T
  mean = (x.numpy() - decoder.bias.numpy()) @ kernel.T @ np.linalg.inv(precision)
  return decoder, x, GaussianParams(mean, np.tile(-np.log(np.diag(precision)), [3, 1])), precision


def test_over_a_linear_gaussian_the_landscape_is_the_posteriors_quadratic_form():
  decoder, x, best, precision = linear_gaussian()
  found = figures_landscape.landscape(decoder, x, best, best.mean - 2, best.mean + 1, points=13)
  offset = np.stack(np.meshgrid(*2 * [np.linspace(-2, 1, 13)], indexing="ij"), axis=-1)
  expected = 0.5 * np.einsum("mni,ij,mnj->mn", offset, precision, offset)
  np.testing.assert_allclose(found.excess, [expected] * 3, atol=1e-8)
  np.testing.assert_allclose(found.axes[:, 0, 8], best.mean[:, 0])
  for surface in found.excess:
    assert np.unravel_index(surface.argmin(), surface.shape) == (8, 8)  # there is λ*


def test_over_an_lstm_the_landscape_is_the_elbo_by_quadrature():
  decoder, x = networks.LSTMDecoder(5, 2, 3, 4, length=4, init_scale=1.5, dtype="float64"), tiny.tokens(2)
  best = GaussianParams(np.array([[0.3, -0.2], [1.0, 0.5]]), np.array([[-0.5, -1.0], [-2.0, 0.1]]))
  found = figures_landscape.landscape(decoder, x, best, best.mean - 1.5, best.mean + 1.5, points=3)

  def excess(i, j):
    mean = np.stack([found.axes[:, 0, i], found.axes[:, 1, j]], axis=1)
    values = [
      grid.elbo(decoder, x, decoder.precompute(x), GaussianParams(m, best.log_var)) for m in (mean, best.mean)
    ]
    return values[1] - values[0]

  both = tf.function(lambda: [excess(0, 2), excess(2, 1)], autograph=False)()
  np.testing.assert_allclose(found.excess[:, 0, 2], both[0], atol=2e-4)
  np.testing.assert_allclose(found.excess[:, 2, 1], both[1], atol=2e-4)
  np.testing.assert_allclose(found.excess[:, 1, 1], 0, atol=1e-12)


def test_a_path_leads_from_the_encoders_mean_to_the_refined_one():
  encoder, decoder, x = tiny.lstm_networks("float32", dropout=0.0)
  model = SAVAE(encoder, decoder, "savae", SVISettings(3, 0.1))
  path = figures_landscape.path(model, x)
  assert path.shape == (4, len(x), 2)
  np.testing.assert_allclose(path[0], model.encode(x).mean, atol=1e-6)
  np.testing.assert_allclose(path[-1], model.refine(x).mean, atol=1e-5)
  np.testing.assert_allclose(figures_landscape.path(model, x, 0), path[:1], atol=1e-6)


@pytest.mark.parametrize("top", [0.005, 0.01, 0.02, 250.0])
def test_levels_rise_by_about_half_a_decade_up_to_the_top(top):
  levels = figures_landscape.levels(top)
  assert levels[0] == 0.01 and levels[-1] >= top
  assert len(levels) == 1 or levels[-2] < top
  assert np.all(np.isin(np.round(levels[1:] / levels[:-1], 3), [3.0, 3.333]))


def test_the_landscape_shows_every_path_the_optimum_and_what_lies_between_its_levels():
  _, _, best, precision = linear_gaussian()
  paths = {
    "VAE, λ₀": best.mean[None] + 0.5,
    "SA-VAE, λ₀ → λ₂": best.mean + np.array([2.0, 0.9, 0.1])[:, None, None],
  }
  rows = []
  for low, high in figures_landscape.views(paths, best):
    axes = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, 31)
    offset = axes - best.mean[..., None]
    quadratic = precision[0, 0] * offset[:, 0, :, None] ** 2 + precision[1, 1] * offset[:, 1, None, :] ** 2
    rows.append(figures_landscape.Landscape(axes, quadratic))
  figure = figures_landscape.draw(rows, paths, best, ["one", "two", "three"], title="a title")
  assert len({tuple(view) for view in rows[0].axes.reshape(6, -1)}) == 1  # wide ones are the same everywhere
  *panels, bar = figure.axes
  assert [ax.get_title() for ax in panels] == ["one", "two", "three", *3 * ["around its optimum"]]
  assert "nats" in bar.get_ylabel()
  for i, ax in enumerate(panels):
    lines = [np.transpose(line.get_data()) for line in ax.lines]
    for points in (best.mean[None], *paths.values()):
      points = points[:, i % 3]
      assert any(line.shape == points.shape and np.allclose(line, points) for line in lines)
    for point in (best.mean[i % 3], *(p[-1, i % 3] for p in paths.values())):  # within its axes
      assert ax.get_xlim()[0] < point[0] < ax.get_xlim()[1] and ax.get_ylim()[0] < point[1] < ax.get_ylim()[1]
    assert np.all(np.diff(ax.collections[0].levels) > 0)
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  assert labels == [*paths, "best Gaussian, λ*"]


def test_the_first_axis_of_a_landscape_lies_along_the_figures_x_axis():
  axes = np.tile(np.linspace(-1, 1, 21), [1, 2, 1])
  rising = figures_landscape.Landscape(axes, np.tile(axes[:, 0, :, None] + 1, [1, 1, 21]))  # with μ₁ alone
  best = GaussianParams(np.zeros([1, 2]), np.zeros([1, 2]))
  panel = figures_landscape.draw([rising], {}, best, ["one"]).axes[0]
  outlines = [path for path in panel.collections[1].get_paths() if len(path.vertices)]  # of the levels
  assert len(outlines) > 3
  for outline in outlines:
    np.testing.assert_allclose(np.ptp(outline.vertices[:, 0]), 0, atol=1e-6)


def test_bounds_against_test_time_steps_are_those_given_and_the_trained_k_is_filled():
  curves = {
    t: [SweepPoint(k, 0.1 + abs(k - t) / 50, 0.01) for k in (5, 0, 20)]  # in any order
    for t in (0, 5, 20)
  }
  (ax,) = figures_curves.train_vs_test(curves, "gap, nats", "a title").axes
  assert ax.get_ylabel().startswith("gap, nats") and ax.get_yscale() == "linear"
  assert list(ax.get_xticks()) == [0, 5, 20]
  for i, (trained, points) in enumerate(curves.items()):
    line, _, (bars,) = ax.containers[i].lines
    np.testing.assert_allclose(line.get_xydata(), [[p.k, p.value] for p in sorted(points)])
    np.testing.assert_allclose([np.ptp(s[:, 1]) for s in bars.get_segments()], 0.04)  # ± 2 s.e.
    filled = [line for line in ax.lines if len(line.get_xdata()) == 1][i]
    np.testing.assert_allclose(filled.get_xydata(), [[trained, 0.1]])
    assert filled.get_color() == line.get_color()
  assert ax.containers[0].lines[0].get_color() == figures_style.COLOURS["vae"]


def test_bounds_of_very_different_models_get_a_logarithmic_axis():
  curves = {t: [SweepPoint(k, 0.1 * 20 ** (k != t), None) for k in (0, 5)] for t in (0, 5)}
  assert figures_curves.train_vs_test(curves, "nats").axes[0].get_yscale() == "log"


def test_gaps_are_stacked_and_the_sum_is_written_with_its_error():
  gaps = [
    Gap("vae-adam", "VAE (Adam)", 0.05, 0.15, 0.01, [0.19, 0.21]),
    Gap("svi-paper", "SVI", 0.05, 4.0, 0.2),
    Gap("savae-repaired", "SA-VAE", 0.05, 0.05, 0.005),
  ]
  (ax,) = figures_curves.gap_stacks(gaps).axes
  assert [label.get_text() for label in ax.get_yticklabels()] == [gap.name for gap in gaps]
  for i, gap in enumerate(gaps):
    first, second = (bar.patches[0] for bar in ax.containers if hasattr(bar, "patches") and _row(bar) == i)
    assert (first.get_width(), second.get_width()) == pytest.approx((gap.approximation, gap.amortisation))
    assert second.get_x() == gap.approximation
    assert colors.to_hex(second.get_facecolor()) == figures_style.colour_of(gap.key).lower()
  assert [text.get_text() for text in ax.texts] == ["0.200 ± 0.020", "4.050 ± 0.400 →", "0.100 ± 0.010"]
  assert 0.2 < ax.get_xlim()[1] < 1  # the one that is far beyond the others is cut


def _row(bars):
  patch = bars.patches[0]
  return round(patch.get_y() + patch.get_height() / 2)


def test_a_gap_is_the_mean_over_test_points_runs_and_oracles():
  rng = np.random.default_rng(0)
  truths = [{"nll": rng.random(9) + 20, "best_bound": rng.random(6) + 21} for _ in range(2)]
  bounds = [[rng.random(9) + 22 for _ in range(3)], [rng.random(9) + 23]]
  gap = figures.gap("vae", "VAE", list(zip(truths, bounds, strict=True)))
  totals = [np.mean(b, axis=0)[:6] - t["nll"][:6] for t, b in zip(truths, bounds, strict=True)]
  assert gap.total == pytest.approx(np.mean(totals))
  assert gap.approximation == pytest.approx(np.mean([t["best_bound"] - t["nll"][:6] for t in truths]))
  assert gap.se == pytest.approx(np.sqrt(sum(np.var(t, ddof=1) / 6 for t in totals)) / 2)
  assert gap.runs == pytest.approx([np.mean(b[:6] - truths[i]["nll"][:6]) for i in (0, 1) for b in bounds[i]])


def test_step_sizes_are_drawn_a_line_a_run_and_latent_beside_what_they_began_with():
  k = np.arange(4)
  each = StepCurves(0.03 - 0.005 * k, [0.02 - 0.004 * k, 0.02 - 0.003 * k])
  latent = StepCurves(np.full(4, 0.03), [np.stack([0.02 + 0.001 * k, 0.01 + 0.001 * k], axis=1)])
  figure = figures_curves.step_sizes({"one each k": each, "one each k and latent": latent})
  first, second = figure.axes
  assert first.get_title() == "one each k" and first.get_yscale() == "log"
  drawn = [line.get_ydata() for line in (*first.lines, *second.lines)]
  expected = [*each.learned, each.initial, *latent.learned[0].T, latent.initial]
  for values, given in zip(drawn, expected, strict=True):
    np.testing.assert_allclose(values, given)
  labels = {text.get_text() for text in figure.legends[0].get_texts()}
  assert labels == {"learned, for all latents", "learned, of z₁", "learned, of z₂", "at the beginning"}


def test_a_method_has_one_colour_and_marker_however_it_is_tuned_and_no_other_has_it():
  families = [["vae-sgd", "VAE (Adam)"], ["svi-paper", "SVI K=20, tuned"], ["vae-svi-kl", "VAE+SVI 1"]]
  families.append(["savae-repaired", "SA-VAE K=20, as in the paper"])
  for look in (figures_style.colour_of, figures_style.marker_of):
    assert [len(set(map(look, family))) for family in families] == [1, 1, 1, 1]
    assert len({look(family[0]) for family in families}) == 4
  with pytest.raises(ValueError, match="lstm"):
    figures_style.colour_of("lstm")


def test_without_results_each_figure_says_in_one_line_why_it_is_missing(tmp_path):
  said = []
  figures.draw_all(tmp_path, said.append)
  assert {line.partition(":")[0] for line in said} == {
    f"figures/{name}.png"
    for name in ("landscape", "landscape-paper", "train_vs_test", "gap_stacks", "step_sizes")
  }
  assert all("not drawn, there is no run" in line and "\n" not in line for line in said)
  assert not list((tmp_path / "figures").iterdir())


def test_a_figure_is_drawn_from_what_is_there_and_a_run_that_is_missing_is_left_out(tmp_path):
  finals = [
    {
      "row": row,
      "column": "oracle",
      "reading": FIRST_READING,
      "data_seed": 0,
      "seed": s,
      "name": f"{row}.s{s}",
    }
    for row in ("vae-adam", "savae-repaired")
    for s in (0, 1)
  ]
  (tmp_path / "results.json").write_text(json.dumps({"finals": finals}))
  best = {"best_mean": np.zeros([5, 2]), "best_log_var": np.zeros([5, 2])}
  np.savez(truth_file(tmp_path, FIRST_READING, 0), nll=np.full(8, 20.0), best_bound=np.full(5, 20.05), **best)
  for final in finals[:-1]:
    (tmp_path / "runs" / final["name"]).mkdir(parents=True)
    np.savez(tmp_path / "runs" / final["name"] / "values-test.npz", bound=np.full(8, 20.2, np.float32))
  said = []
  figures.draw_all(tmp_path, said.append)
  assert "figures/gap_stacks.png" in said
  assert [file.name for file in (tmp_path / "figures").iterdir()] == [
    "gap_stacks.png"
  ]  # and no half-written one
  assert 880 <= Image.open(tmp_path / "figures" / "gap_stacks.png").width <= 920
  assert sum("not drawn" in line for line in said) == len(said) - 1


def test_a_landscape_needs_the_optimum_of_its_points(tmp_path):
  final = {
    "row": "vae-adam",
    "column": "oracle",
    "reading": FIRST_READING,
    "data_seed": 0,
    "seed": 0,
    "name": "a",
  }
  with pytest.raises(UserError, match="the optimum of test points"):
    figures.landscape(tmp_path, [final], ["vae-adam"])
