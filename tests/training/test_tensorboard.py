"""What TensorBoard is given is what the run did, read back through TensorBoard's own readers."""

import csv
import re

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups
from tensorboard.plugins.projector import ProjectorConfig

from tests import tiny_documents, tiny_runs
from tf_savae.evaluation.latents import mutual_information
from tf_savae.evaluation.posteriors import Inference
from tf_savae.runs.presets import make_config
from tf_savae.schedules import KWarmup
from tf_savae.training import event_files
from tf_savae.training.tensorboard import TensorBoardLogger

SPLIT = {"nll_bound": 30.5, "nll_bound_initial": 31.25, "refinement_gain": 0.75, "kl": 2.5, "nll_iw": 30.0}
EPOCHS = 2


def config_of(directory, **given):
  return make_config(preset="tiny", run_dir=str(directory), **given)


def board(directory, data, **kwargs):
  return TensorBoardLogger(
    directory / "tensorboard", data, config_of(directory), every=2, image_share=10.0, **kwargs
  )


class Events:
  """The events of one TensorBoard run."""

  def __init__(self, directory):
    self._accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    self._accumulator.Reload()

  @property
  def tags(self):
    return set(self._accumulator.Tags()["tensors"])

  def scalars(self, tag):
    """[(step, value), …]"""
    return [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in self._accumulator.Tensors(tag)]

  def tensors(self, tag):
    return [(e.step, tf.make_ndarray(e.tensor_proto)) for e in self._accumulator.Tensors(tag)]

  def images(self, tag):
    return [(step, tf.io.decode_png(value[2]).numpy()) for step, value in self.tensors(tag)]


class Recorded:
  """A finished tiny run and everything that there is to compare its logs with."""

  def __init__(self, directory):
    self.directory = directory
    self.data = tiny_runs.image_data(is_stand_in=True)
    self.data.labels = {"letter": {"train": "x" * 12, "valid": "abcdefghij", "test": "y" * 6}}
    self.model = tiny_runs.image_model("vae_svi", beta=0.5, k_schedule=KWarmup(2, 4))
    self.board = board(directory, self.data)
    self.paths, self.after = [], []
    self.epochs = []
    for epoch in range(EPOCHS):
      self.epochs.append(tiny_runs.fit_epoch(self.model, self.data, epoch, [self.board]))
      self.after.append(Inference(self.model)(self.data.examples("valid", 500)))
    self.results = {"steps": 6, "valid": SPLIT | {"kl": 2.75}, "test": SPLIT}
    self.board.finish(self.model, self.results)

  def events(self, run):
    return Events(self.directory / "tensorboard" / run)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return Recorded(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def vae_of_this_module():
  return tiny_runs.image_model("vae", 0)


@pytest.fixture
def vae(vae_of_this_module):
  """A model at step 0; traced once for all tests, whatever its weights."""
  vae_of_this_module.step.assign(0)
  return vae_of_this_module


TAGS = {
  "bound": "bound/lambda_K",
  "bound_initial": "bound/lambda_0",
  "nll": "terms/nll",
  "kl": "terms/kl_lambda_K",
  "kl_initial": "terms/kl_lambda_0",
}


@pytest.mark.parametrize("name", TAGS)
def test_train_and_valid_share_a_chart_that_shows_the_logs_of_each_epoch(run, name):
  steps = [3, 6]
  for directory, prefix in (("train_epoch", ""), ("valid", "val_")):
    logged = run.events(directory).scalars(TAGS[name])
    assert [step for step, _ in logged] == steps
    np.testing.assert_allclose([v for _, v in logged], [e[prefix + name] for e in run.epochs], rtol=1e-6)


@pytest.mark.parametrize("name", [*TAGS, "gradient_norm_encoder", "gradient_norm_decoder"])
def test_points_within_an_epoch_are_means_of_their_own_updates(run, name):
  tag = TAGS.get(name, f"training/{name}")
  points = run.events("train").scalars(tag)
  # Every second update, and the last of each epoch.
  assert [step for step, _ in points] == [2, 3, 4, 6]
  values = [value for _, value in points]
  # Updates of one epoch have 4 examples each, so its mean is that of the points, weighted by their updates.
  assert (2 * values[0] + values[1]) / 3 == pytest.approx(run.epochs[0][name], rel=1e-5)
  assert (values[2] + 2 * values[3]) / 3 == pytest.approx(run.epochs[1][name], rel=1e-5)
  assert len(set(values)) == 4


def test_the_gain_is_the_difference_of_the_bounds(run):
  for directory in ("train", "train_epoch", "valid"):
    events = run.events(directory)
    gain = [v for _, v in events.scalars("bound/gain_of_refinement")]
    before, after = ([v for _, v in events.scalars(f"bound/lambda_{i}")] for i in "0K")
    np.testing.assert_allclose(gain, np.subtract(before, after), atol=1e-4)


def test_schedules_speed_and_skipped_updates_are_logged(run):
  events = run.events("train")
  assert [v for _, v in events.scalars("training/beta")] == [0.5] * 4
  assert events.scalars("training/svi_steps") == [(2, 1.0), (3, 1.0), (4, 2.0), (6, 2.0)]
  np.testing.assert_allclose([v for _, v in events.scalars("training/learning_rate")], 0.01, rtol=1e-6)
  assert [v for _, v in events.scalars("training/skipped_updates")] == [0.0] * 4
  assert all(v > 0 for _, v in events.scalars("training/examples_per_second"))


def test_no_scalar_is_left_without_a_chart_of_its_own(run):
  for directory in ("train", "train_epoch", "valid"):
    assert not [tag for tag in run.events(directory).tags if tag.startswith("other/")]


def test_active_units_are_those_of_the_posterior_means(run):
  expected = [int((np.var(p.final.mean, axis=0) > 0.01).sum()) for p in run.after]
  assert [v for _, v in run.events("valid").scalars("latent/active_units")] == expected


def test_mutual_information_is_that_of_the_posteriors(run):
  expected = [mutual_information(p.final, run.model.seed).value for p in run.after]
  logged = [v for _, v in run.events("valid").scalars("latent/mutual_information")]
  np.testing.assert_allclose(logged, expected, rtol=1e-3)


def test_the_curve_over_svi_steps_is_the_newest_epochs(run):
  points = run.events("svi_steps").scalars("refinement/bound_after_k_steps")
  assert [k for k, _ in points] == [0, 1, 2]
  np.testing.assert_allclose([v for _, v in points], run.after[-1].bounds.mean(axis=1), rtol=1e-6)
  assert len(list((run.directory / "tensorboard" / "svi_steps").iterdir())) == 1


def test_histograms_hold_every_mean_and_deviation(run):
  events = run.events("valid")
  for name, params in (("lambda_0", run.after[-1].initial), ("lambda_K", run.after[-1].final)):
    for tag, expected in ((f"mean_{name}", params.mean), (f"stddev_{name}", np.exp(0.5 * params.log_var))):
      (_, _), (step, buckets) = events.tensors(f"posterior/{tag}")
      assert step == 6
      assert buckets[:, 2].sum() == expected.size
      np.testing.assert_allclose(buckets[0, 0], expected.min(), rtol=1e-5)
      np.testing.assert_allclose(buckets[-1, 1], expected.max(), rtol=1e-5)


def test_pictures_are_there_and_not_blank(run):
  pictures = ("reconstructions", "prior_samples", "latent_traversals")
  for tag in (*(f"pictures/{name}" for name in pictures), "refinement/gain_of_k_steps"):
    images = run.events("valid").images(tag)
    assert [step for step, _ in images] == [3, 6]
    for _, image in images:
      assert image.shape[0] > 100 and image.shape[1] > 200 and image.shape[2] == 3
      assert image.min() < 100 and image.max() == 255
  assert [step for step, _ in run.events("results").images("pictures/reconstructions")] == [6]


def test_the_stand_in_is_named_where_settings_are_shown(run):
  ((_, text),) = run.events("results").tensors("settings")
  assert "made up: a small stand-in" in text.item().decode()


def hparams_page(logdir):
  """Names of the columns, and (settings, metrics) of each row, as the page's backend serves them for a `--logdir`."""
  multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(logdir))
  multiplexer.Reload()
  provider = data_provider.MultiplexerDataProvider(multiplexer, str(logdir))
  context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
  experiment = context.experiment_from_metadata(
    RequestContext(),
    "",
    True,
    context.hparams_metadata(RequestContext(), ""),
    context.hparams_from_data_provider(RequestContext(), "", limit=None),
  )
  request = api_pb2.ListSessionGroupsRequest(
    start_index=0,
    slice_size=10,
    allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING],
    aggregation_type=api_pb2.AGGREGATION_AVG,
    include_metrics=True,
  )
  for info in experiment.metric_infos:
    request.col_params.add(metric=info.name)
  for info in experiment.hparam_infos:
    request.col_params.add(hparam=info.name, include_in_result=True)
  handler = list_session_groups.Handler(RequestContext(), context, "", request)
  return [info.name for info in experiment.hparam_infos], [
    (
      {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()},
      {metric.name.tag: metric.value for metric in group.metric_values},
    )
    for group in handler.run().session_groups
  ]


@pytest.mark.parametrize("logdir", ["one run", "all runs"])
def test_the_hparams_page_shows_settings_and_final_metrics_in_one_row(run, logdir):
  columns, ((hparams, metrics),) = hparams_page(
    run.directory / "tensorboard" if logdir == "one run" else run.directory.parent
  )
  assert columns[:6] == ["1 model", "2 k", "3 svi_rule", "4 svi_lr", "5 learning_rate", "6 preset"]
  assert hparams["1 model"] == "savae" and hparams["2 k"] == 20 and hparams["9 seed"] == 0
  assert hparams["encoder_channels"] == "4,4,4"
  assert hparams["stand_in_data"] is True
  assert "run_dir" not in hparams
  names = {
    "nll_bound": "bound",
    "nll_bound_initial": "bound_at_lambda_0",
    "refinement_gain": "gain_of_refinement",
    "kl": "kl",
    "nll_iw": "nll_importance",
  }
  expected = {f"test/{names[name]}": value for name, value in SPLIT.items()}
  expected |= {f"validation/{names[name]}": value for name, value in (SPLIT | {"kl": 2.75}).items()}
  assert metrics == expected


def test_custom_scalars_put_lambda_0_beside_lambda_k(run):
  ((_, config),) = run.events("results").tensors("custom_scalars__config__")
  (page,) = Layout.FromString(config.item()).category
  charts = {chart.title: list(chart.multiline.tag) for chart in page.chart}
  assert charts.keys() == {"bound, nats", "KL to the prior, nats"}  # images have no perplexity
  tags = run.events("valid").tags
  for patterns in charts.values():
    shown = {tag for tag in tags if any(re.search(pattern, tag) for pattern in patterns)}
    assert {tag.rpartition("lambda_")[2] for tag in shown} == {"0", "K"} and len(shown) == 2


def test_the_graph_is_that_of_inference(run):
  (path,) = (run.directory / "tensorboard" / "inference").iterdir()
  records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
  events = [event for event in map(tf.compat.v1.Event.FromString, records) if event.graph_def]
  (graph,) = [tf.compat.v1.GraphDef.FromString(event.graph_def) for event in events]
  parts = {node.name.partition("/")[0] for node in graph.node}
  assert {"features_without_z", "lambda_0", "refinement", "bounds_of_all_steps", "kl"} <= parts
  assert len(parts) < 20  # the rest are inputs, outputs and constants


def test_the_projectors_files_agree(run):
  directory = run.directory / "tensorboard" / "results"
  config = text_format.Parse((directory / "projector_config.pbtxt").read_text(), ProjectorConfig())
  (embedding,) = config.embeddings
  assert "stand-in" in embedding.tensor_name
  means = np.loadtxt(directory / embedding.tensor_path, delimiter="\t")
  assert list(embedding.tensor_shape) == list(means.shape) == [10, tiny_runs.LATENT]
  np.testing.assert_allclose(means, run.after[-1].final.mean, atol=1e-5)
  with open(directory / embedding.metadata_path, newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
  np.testing.assert_allclose([float(row["KL"]) for row in rows], run.after[-1].kl, atol=0.01)
  images = run.data.examples("valid", 10)
  assert [int(row["ink pixels"]) for row in rows] == images.sum(axis=(1, 2, 3)).tolist()
  assert [row["letter"] for row in rows] == list("abcdefghij")
  sprites = np.asarray(Image.open(directory / embedding.sprite.image_path))
  width, height = embedding.sprite.single_image_dim
  side = sprites.shape[1] // width
  assert sprites.shape == (side * height, side * width) and side**2 >= len(means)
  for i, image in enumerate(images):
    top, left = i // side * height, i % side * width
    np.testing.assert_array_equal(sprites[top : top + height, left : left + width], 255 * (1 - image[..., 0]))


@pytest.mark.slow
def test_a_resumed_run_logs_no_step_twice_and_drops_what_came_after_its_checkpoint(tmp_path, vae):
  data, model = tiny_runs.image_data(), vae
  first = board(tmp_path, data)
  tiny_runs.fit_epoch(model, data, 0, [first])
  tiny_runs.fit_epoch(model, data, 1, [first])
  first.close()
  model.step.assign(4)  # the last checkpoint was within the second epoch
  second = board(tmp_path, data)
  tiny_runs.fit_epoch(model, data, 1, [second], start=1)
  second.close()
  for run, tag, steps in (
    ("train", "bound/lambda_K", [2, 3, 4, 6]),
    ("train_epoch", "bound/lambda_K", [3, 6]),
    ("valid", "bound/lambda_K", [3, 6]),
    ("valid", "posterior/mean_lambda_0", [3, 6]),
    ("valid", "pictures/prior_samples", [3, 6]),
  ):
    events = Events(tmp_path / "tensorboard" / run)
    assert [step for step, _ in events.tensors(tag)] == steps, (run, tag)
  assert len(Events(tmp_path / "tensorboard" / "results").tensors("settings")) == 1


@pytest.mark.slow
def test_a_run_resumed_for_a_validation_alone_logs_it_once(tmp_path, vae):
  data = tiny_runs.image_data()
  first = board(tmp_path, data)
  logs = [tiny_runs.fit_epoch(vae, data, epoch, [first]) for epoch in range(2)]
  first.close()
  second = board(tmp_path, data)  # killed before the checkpoint that says that the second epoch is validated
  second.set_model(vae)
  second.on_epoch_begin(1)
  second.on_test_begin()
  second.on_epoch_end(1, logs[1])
  second.close()
  for run, name in (("train_epoch", "bound"), ("valid", "val_bound")):
    points = Events(tmp_path / "tensorboard" / run).scalars("bound/lambda_K")
    assert points == [(3, pytest.approx(logs[0][name])), (6, pytest.approx(logs[1][name]))]
  assert [step for step, _ in Events(tmp_path / "tensorboard/train").scalars("bound/lambda_K")] == [
    2,
    3,
    4,
    6,
  ]


def test_an_event_file_that_a_kill_cut_short_keeps_its_whole_records(tmp_path):
  writer = tf.summary.create_file_writer(str(tmp_path))
  with writer.as_default():
    for step in range(5):
      tf.summary.scalar("a", float(step), step=step)
  writer.close()
  (path,) = tmp_path.iterdir()
  path.write_bytes(path.read_bytes()[:-7])
  assert event_files.drop_after(tmp_path, 2) == 1  # step 4 is damaged, step 3 is later
  assert [path] == list(tmp_path.iterdir())
  assert Events(tmp_path).scalars("a") == [(0, 0.0), (1, 1.0), (2, 2.0)]
  before = path.stat().st_ino
  assert event_files.drop_after(tmp_path, 2) == 0
  assert path.stat().st_ino == before


@pytest.mark.slow
@pytest.mark.parametrize("method", ["autoreg", "svi", "vae"])
def test_methods_log_what_they_have(tmp_path, vae, method):
  data = tiny_runs.image_data()
  model = vae if method == "vae" else tiny_runs.image_model(method, 2 if method == "svi" else 0)
  callback = board(tmp_path, data)
  tiny_runs.fit_epoch(model, data, 0, [callback])
  callback.finish(model, {"steps": 3, "test": {"nll_bound": 3.0}})
  train, valid = (Events(tmp_path / "tensorboard" / name).tags for name in ("train", "valid"))
  assert "bound/lambda_K" in train & valid
  assert ("bound/lambda_0" in train & valid) == (method == "vae")
  assert ("training/gradient_norm_encoder" in train) == (method == "vae")
  assert ("posterior/mean_lambda_K" in valid) == (method != "autoreg")
  assert ("posterior/mean_lambda_0" in valid) == (method == "vae")
  assert ("pictures/reconstructions" in valid) == (method != "autoreg")
  assert "pictures/prior_samples" in valid
  assert (tmp_path / "tensorboard" / "svi_steps").exists() == (method == "svi")
  assert (tmp_path / "tensorboard/results/projector_config.pbtxt").exists() == (method != "autoreg")


@pytest.mark.slow
def test_token_sequences_are_logged_without_pictures(tmp_path):
  data, model = tiny_runs.token_data(), tiny_runs.token_model()
  callback = board(tmp_path, data)
  tiny_runs.fit_epoch(model, data, 0, [callback])
  callback.finish(model, {"steps": 3, "test": {"nll_bound": 3.0}})
  tags = Events(tmp_path / "tensorboard" / "valid").tags
  assert "refinement/gain_of_k_steps" in tags and not [tag for tag in tags if tag.startswith("pictures")]
  results = tmp_path / "tensorboard" / "results"
  assert np.loadtxt(results / "means.tsv").shape == (12, 3)  # two latents, and a zero for the third dimension
  assert not (results / "sprites.png").exists()
  with open(results / "metadata.tsv", newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
  assert [row["tokens"] for row in rows] == [" ".join(map(str, x)) for x in data.examples("valid", 12)]


@pytest.mark.slow
def test_documents_are_logged_with_perplexities_and_their_first_words(tmp_path):
  data, model = tiny_documents.DocumentData(), tiny_documents.model("vae_svi")
  callback = board(tmp_path, data)
  logs = tiny_runs.fit_epoch(model, data, 0, [callback])
  callback.finish(model, {"steps": 3, "test": {"nll_bound": 3.0}})
  valid, train = (Events(tmp_path / "tensorboard" / name) for name in ("valid", "train"))
  assert data.num_tokens("valid") == sum(map(len, data.documents["valid"]))
  for tag, name in (("perplexity/lambda_K", "val_bound"), ("perplexity/lambda_0", "val_bound_initial")):
    total = logs[name] * data.num_examples("valid")
    assert valid.scalars(tag) == [(3, pytest.approx(np.exp(total / data.num_tokens("valid")), rel=1e-5))]
  assert not [tag for tag in valid.tags | train.tags if tag.startswith(("pictures", "other"))]
  results = tmp_path / "tensorboard" / "results"
  assert not (results / "sprites.png").exists()
  with open(results / "metadata.tsv", newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
  documents = data.documents["valid"]  # from the shortest to the longest
  assert [int(row["tokens"]) for row in rows] == [len(ids) for ids in documents]
  for row, ids in zip(rows, documents, strict=True):
    words = data.vocabulary.decode(ids).split()
    assert row["document"] == " ".join(words[:12]) + (" …" if len(words) > 12 else "")
  assert {len(words) > 12 for words in (row["document"].split() for row in rows)} == {True, False}


@pytest.mark.slow
def test_a_log_that_cannot_be_written_is_given_up_and_the_run_goes_on(tmp_path, vae, capfd):
  data, model = tiny_runs.image_data(), vae
  (tmp_path / "tensorboard").write_text("a file where the directory should be")
  callback = board(tmp_path, data)
  logs = tiny_runs.fit_epoch(model, data, 0, [callback])
  callback.finish(model, {"steps": 3})
  assert np.isfinite(logs["val_bound"])
  assert capfd.readouterr().err.count("warning: no more logs for TensorBoard in ") == 1
