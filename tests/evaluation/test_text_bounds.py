"""What is reported of text: perplexities by their definition, whatever the padding, with one trace."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny_documents, tiny_runs
from tf_savae.evaluation import per_example
from tf_savae.evaluation.bounds import Evaluator, evaluate
from tf_savae.evaluation.latents import active_units, mutual_information
from tf_savae.evaluation.posteriors import Inference

BATCH = 4


@pytest.fixture(scope="module")
def data():
  return tiny_documents.DocumentData()


@pytest.fixture(scope="module")
def model():
  return tiny_documents.model("vae_svi", k=3)


@pytest.fixture(scope="module")
def evaluator(model):
  return Evaluator(model, iw_samples=2)


def test_perplexity_is_of_words_and_ends_and_of_nothing_else(data):
  model = tiny_documents.model("autoreg")
  reported = evaluate(model, data, "valid", BATCH, iw_samples=5)
  log_p = tf.nn.log_softmax(model.decoder.bias).numpy()
  nats = np.array([-np.sum(log_p[ids]) for ids in data.documents["valid"]])
  assert reported["tokens"] == data.num_tokens("valid")
  expected = np.exp(nats.sum() / sum(len(ids) for ids in data.documents["valid"]))
  assert reported["ppl_bound"] == pytest.approx(expected, rel=1e-5)
  assert reported["ppl_iw"] == pytest.approx(expected, rel=1e-5)
  assert reported["nll_bound"] == pytest.approx(nats.mean(), rel=1e-5)
  assert not [name for name in reported if "initial" in name or "mutual" in name or "active" in name]


def test_each_perplexity_is_that_of_its_own_nats_with_its_own_error(data, evaluator, tmp_path):
  reported = evaluator(data, "test", BATCH, save_to=tmp_path / "rows.npz")
  rows = per_example.load(tmp_path / "rows.npz")
  np.testing.assert_array_equal(rows["tokens"], [len(ids) for ids in data.documents["test"]])
  total = rows["tokens"].sum()
  for nll, ppl in (
    ("nll_bound", "ppl_bound"),
    ("nll_bound_initial", "ppl_bound_initial"),
    ("nll_iw", "ppl_iw"),
  ):
    nats = rows[nll].astype(np.float64)
    assert reported[nll] == pytest.approx(nats.mean())
    assert reported[ppl] == pytest.approx(np.exp(nats.sum() / total))
    residuals = nats - nats.sum() / total * rows["tokens"]
    assert reported[f"{ppl}_se"] == pytest.approx(
      reported[ppl] * np.sqrt(np.sum(residuals**2) * 7 / 6) / total
    )
  assert reported["kl"] == pytest.approx(rows["kl"].mean(), rel=1e-6)
  assert reported["kl_initial"] == pytest.approx(rows["kl_initial"].mean(), rel=1e-6)


def test_documents_of_all_lengths_and_splits_share_one_trace(data, evaluator):
  lengths = {x.shape[1] for x in data.eval_batches("valid", BATCH)}
  assert len(lengths) > 1
  evaluator(data, "valid", BATCH)
  evaluator(data, "test", BATCH)
  assert evaluator._step.experimental_get_tracing_count() == 1


def test_padding_changes_no_number(data, evaluator, tmp_path):
  padded = tiny_documents.DocumentData(multiple=40)
  one = evaluator(data, "valid", BATCH, save_to=tmp_path / "one.npz")
  other = evaluator(padded, "valid", BATCH, save_to=tmp_path / "other.npz")
  assert one == pytest.approx(other, rel=1e-5)
  digests = [per_example.load(tmp_path / f"{name}.npz")["digest"] for name in ("one", "other")]
  np.testing.assert_array_equal(*digests)
  assert len(set(digests[0])) > 5


def test_mutual_information_and_active_units_are_of_the_refined_posterior(data, model, evaluator):
  reported = evaluator(data, "valid", BATCH)
  posteriors = Inference(model)(data.examples("valid", 10), batch_size=BATCH)
  for name, params in (("", posteriors.final), ("_initial", posteriors.initial)):
    value, se = mutual_information(params, model.seed)
    assert reported[f"mutual_information{name}"] == pytest.approx(value, rel=1e-4)
    assert reported[f"mutual_information{name}_se"] == pytest.approx(se, rel=1e-3)
  assert reported["mutual_information"] != pytest.approx(reported["mutual_information_initial"], rel=1e-3)
  assert reported["active_units"] == active_units(posteriors.final.mean)


def test_without_refinement_both_posteriors_are_one(data):
  reported = evaluate(tiny_documents.model("vae"), data, "test", BATCH, 1)
  for name in ("mutual_information", "ppl_bound"):
    assert reported[name] == reported[f"{name}_initial"] > 0


def test_a_method_without_encoder_has_its_refined_posterior_only(data):
  reported = evaluate(tiny_documents.model("svi"), data, "test", BATCH, 1)
  assert 0 < reported["mutual_information"] < np.log(7)
  assert not [name for name in reported if "initial" in name]


def test_posteriors_of_documents_of_two_lengths_need_no_trace_each(data, monkeypatch):
  model, traces = tiny_documents.model("vae"), []
  original = model.inference
  monkeypatch.setattr(model, "inference", lambda *a, **k: traces.append(a) or original(*a, **k))
  short, long = (data.examples("valid", n) for n in (2, 10))
  assert short.shape[1] < long.shape[1]
  infer = Inference(model, data.eval_batches("valid", BATCH).element_spec)
  one, first = infer(short, 2), infer(long, 2).first(2)
  assert len(traces) == 1
  for part, expected in zip(tf.nest.flatten(tuple(first)), tf.nest.flatten(tuple(one)), strict=True):
    np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)
  surprised = Inference(model)  # told nothing, it learns from the second length that there are more
  for x in (short, long, np.pad(long, [(0, 0), (0, 8)])):
    surprised(x, 2)
  assert len(traces) == 1 + 2


def test_padding_that_a_whole_batch_has_costs_nothing(data, monkeypatch):
  model, shapes = tiny_documents.model("vae"), []
  infer = Inference(model, data.eval_batches("valid", BATCH).element_spec)
  long = np.pad(data.examples("valid", 10), [(0, 0), (0, 80)])
  expected = infer(long, BATCH)
  traced = infer._traced
  monkeypatch.setattr(infer, "_traced", lambda x, i: shapes.append(x.shape[1]) or traced(x, i))
  infer(long, BATCH)
  assert shapes == [x.shape[1] for x in data.eval_batches("valid", BATCH)]
  plain = Inference(model)(long, BATCH)  # of the first x's shape
  np.testing.assert_allclose(plain.bounds, expected.bounds, rtol=1e-5)


def test_images_have_no_perplexity(tmp_path):
  data = tiny_runs.image_data(valid=3)
  reported = Evaluator(tiny_runs.image_model("autoreg", 0), 1)(
    data, "valid", 2, save_to=tmp_path / "rows.npz"
  )
  assert not [name for name in reported if "ppl" in name or "tokens" in name]
  rows = per_example.load(tmp_path / "rows.npz")
  assert set(rows) == {"nll_bound", "kl", "nll_iw", "digest"}
  # Black pixels are no padding.
  np.testing.assert_array_equal(rows["digest"], per_example.digests([data.examples("valid", 3)]))
