"""Signatures of several inputs: a label of a conditional model, and a mask of what was seen, beside the image."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from exports import Served, make_run
from PIL import Image
from server import running
from tensorflow_serving.apis import prediction_log_pb2

from tf_savae import SAVAE, SVISettings, masks
from tf_savae.commands import client as client_command
from tf_savae.commands import encode as encode_command
from tf_savae.errors import UserError
from tf_savae.networks import ConditionalDecoder, ConditionalEncoder, MLPDecoder, ResNetEncoder
from tf_savae.runs import restore
from tf_savae.serving import exporter, gate, images, transport

SIDE, NAMES, K = 8, ["Braille", "Greek", "Latin"], 2
UPPER = masks.of_half("upper", SIDE, SIDE)


class Exported:
  """A run on images, and its export with masks."""

  def __init__(self, folder, facts, k, **settings):
    self.run = make_run(folder / "run", facts=facts, **settings)
    self.path = exporter.export(self.run, folder / "models", k=k, masks=True)
    self.interfaces = gate.interfaces(gate.read_meta_graph(self.path))
    self.served = Served(self.path, self.interfaces)
    self.model = restore.load_model(self.run).model


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
  facts = {"image_shape": [SIDE, SIDE, 1], "label_names": NAMES}
  settings = {"decoder": "mlp", "mlp_units": (4,), "condition": "alphabet"}
  return Exported(tmp_path_factory.mktemp("conditional"), facts, (0, K), **settings)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
  facts = {"image_shape": [SIDE, SIDE, 3], "pixels": "levels"}
  settings = {"decoder": "pixelcnn", "mixture_components": 2}
  return Exported(tmp_path_factory.mktemp("colour"), facts, (0,), **settings)


@pytest.fixture(scope="module")
def urls(conditional):
  with running(conditional.path, conditional.served.session) as (_, found):
    yield found


def x(n=3):
  image = (np.random.default_rng(2).random([n, SIDE, SIDE, 1]) < 0.3).astype(np.float32)
  return {"image": image, "label": (np.arange(n) % 3).astype(np.int32)}


def close(answer, expected, names=None):
  for name in names or expected:
    np.testing.assert_allclose(answer[name], expected[name], rtol=1e-5, atol=1e-5)


def test_a_conditional_model_has_all_signatures_with_its_label(conditional):
  of_x = {"encode", "encode_refined", "encode_refined_0", "encode_refined_2", "elbo", "reconstruct"}
  of_x |= {"encode_refined_masked", "complete"}
  names = {name for one in of_x for name in (one, f"{one}_png")}
  assert conditional.interfaces.keys() == names | {"decode", "serving_default"}
  assert all("label" in interface.inputs for interface in conditional.interfaces.values())
  assert conditional.interfaces["decode"].inputs.keys() == {"z", "label"}
  assert conditional.interfaces["complete_png"].inputs.keys() == {"image_bytes", "label", "mask", "seed"}


def test_its_answers_are_the_models_under_that_label(conditional):
  served, model = conditional.served, conditional.model
  close(served("encode", x()), model.encode(x())._asdict())
  z = np.random.default_rng(0).normal(size=[3, model.latent_dim]).astype(np.float32)
  for label in (x()["label"], np.array([2, 2, 1], np.int32)):
    expected = model.decode(z, condition=label)
    close(served("decode", {"z": z, "label": label}), {"probabilities": expected})
  answer = served("encode_refined_2", x())
  assert np.all(np.abs(served("encode_refined_0", x())["mean"] - answer["mean"]).max(axis=1) > 1e-5)
  others = {**x(), "label": np.array([1, 2, 0], np.int32)}
  assert np.all(np.abs(served("encode_refined_2", others)["elbo_refined"] - answer["elbo_refined"]) > 1e-4)
  alone = served("encode_refined_2", {name: part[1:2] for name, part in x().items()})
  np.testing.assert_allclose(alone["mean"][0], answer["mean"][1], rtol=1e-4, atol=1e-5)
  assert served("encode_refined", {name: part[:0] for name, part in x().items()})["mean"].shape == (0, 3)


def test_card_and_warm_up_have_every_input(conditional):
  extra = conditional.path / "assets.extra"
  card = (extra / "README.md").read_text()
  assert "| `encode_refined_2` | `image`, `label` |" in card
  assert "from 0 to 2, int32: 0 Braille, 1 Greek, 2 Latin" in card
  requests = [
    prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
    for record in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))
  ]
  inputs = {request.model_spec.signature_name: set(request.inputs) for request in requests}
  assert inputs == {name: set(interface.inputs) for name, interface in conditional.interfaces.items()}


@pytest.mark.parametrize(("kind", "by_row"), [("http", False), ("http", True), ("grpc", False)])
def test_a_server_answers_over_both_protocols(kind, by_row, conditional, urls):
  with transport.connect(urls[kind], "savae", by_row=by_row) as server:
    close(server.predict("encode_refined_2", x()), conditional.served("encode_refined_2", x()))
    seen = {**x(), "mask": np.repeat(UPPER[np.newaxis], 3, axis=0)}
    close(server.predict("encode_refined_masked", seen), conditional.served("encode_refined_masked", seen))
    for wrong, message in (
      (x()["image"], "takes image, label; received one array"),
      ({"image": x()["image"]}, "takes image, label; received image"),
      ({**x(), "label": np.zeros(2, np.int32)}, r"must have the same rows; received \[2, 3\]"),
      ({**x(), "label": np.full(3, 7, np.int32)}, "label must be from 0 to 2"),
    ):
      with pytest.raises(UserError, match=message):
        server.predict("encode_refined_2", wrong)


def ask(capsys, *arguments):
  status = client_command.main(["client", *map(str, arguments)])
  out, err = capsys.readouterr()
  assert err.count("\n") == (1 if status else 0), err
  return json.loads(out) if not status else err


def test_the_client_sends_label_mask_and_seed(conditional, urls, tmp_path, capsys):
  np.save(tmp_path / "x.npy", x()["image"])
  np.save(tmp_path / "mask.npy", np.stack([UPPER, 1 - UPPER, UPPER]))
  drawing = tmp_path / "drawing.png"
  drawing.write_bytes(images.encode_png(images.example_drawings(1, 40, 40)[0]))
  given = {**x(), "label": np.full(3, 1, np.int32)}
  host = f"--url={urls['http']}"
  answer = ask(
    capsys, host, "--signature=encode_refined_2", "--label=1", "--batch_size=2", tmp_path / "x.npy"
  )
  close({k: np.array(v) for k, v in answer.items()}, conditional.served("encode_refined_2", given))
  answer = ask(capsys, host, "--signature=encode", "--label=1", drawing)
  png = {"image_bytes": np.array([drawing.read_bytes()], object), "label": np.array([1], np.int32)}
  close({k: np.array(v) for k, v in answer.items()}, conditional.served("encode_png", png))
  extra = ["--label=1", f"--mask={tmp_path / 'mask.npy'}", "--seed=5", "--batch_size=2"]
  answer = ask(capsys, f"--url={urls['grpc']}", "--signature=complete", *extra, tmp_path / "x.npy")
  seen = {**given, "mask": np.load(tmp_path / "mask.npy"), "seed": np.array([5, 6, 7], np.int32)}
  close({k: np.array(v) for k, v in answer.items()}, conditional.served("complete", seen))
  for arguments, message in (
    (["--signature=encode"], "takes a label, too; give --label"),
    (["--signature=encode", "--label=1", "--mask=upper"], "takes no mask; leave --mask out"),
    (
      ["--signature=complete", "--label=1", "--mask=top", "--seed=1"],
      "--mask must be upper, lower, left, right",
    ),
  ):
    assert message in ask(capsys, host, *arguments, tmp_path / "x.npy")


def test_what_was_not_seen_does_not_matter_and_what_was_stays(conditional):
  served, mask = conditional.served, np.repeat(UPPER[np.newaxis], 3, axis=0)
  other = {**x(), "image": np.where(mask[..., np.newaxis] > 0, x()["image"], 1 - x()["image"])}
  answers = [served("encode_refined_masked", {**given, "mask": mask}) for given in (x(), other)]
  close(answers[0], conditional_refinement(conditional, x(), UPPER))
  for name in answers[0]:
    np.testing.assert_array_equal(answers[0][name], answers[1][name])
  seeds = np.array([4, 4, 9], np.int32)
  first, second = (
    served("complete", {**given, "mask": mask, "seed": seeds})["image"] for given in (x(), other)
  )
  np.testing.assert_array_equal(first, second)
  np.testing.assert_array_equal(first[:, :4], x()["image"][:, :4])
  again = served("complete", {**{k: v[1:] for k, v in x().items()}, "mask": mask[1:], "seed": seeds[1:]})[
    "image"
  ]
  np.testing.assert_array_equal(again, first[1:])  # a row's draw is its seed's, whatever its place
  assert set(np.unique(first)) <= {0.0, 1.0}


def conditional_refinement(exported, given, mask):
  """λ_K of the seen part, by `ServingBatch` of the Keras model."""
  from tf_savae.serving.serving_batch import ServingBatch, SharedNoise

  noise = SharedNoise.draw(0, K, exported.model.latent_dim, exported.model.svi.noise_draws)
  batch = ServingBatch(exported.model, given, 0, noise, mask)
  params = batch.posterior()
  return {**params._asdict(), "elbo_refined": -batch.bound(params).neg_elbo}


def test_offline_gives_what_the_export_answers(conditional, tmp_path, capsys):
  np.savez(tmp_path / "x.npz", **x())
  out = tmp_path / "latents.npz"

  def encode(*arguments):
    status = encode_command.main(
      ["encode", f"--run_dir={conditional.run}", f"--output={out}", "--eval_k=2", *map(str, arguments)]
    )
    err = capsys.readouterr().err.strip().splitlines()
    return np.load(out) if not status else err[-1]

  close(encode(tmp_path / "x.npz"), conditional.served("encode_refined_2", x()))
  greek = {**x(), "label": np.full(3, 1, np.int32)}
  for label in ("Greek", "1"):
    close(encode(f"--label={label}", tmp_path / "x.npz"), conditional.served("encode_refined_2", greek))
  np.save(tmp_path / "x.npy", x()["image"])
  assert "without one; give --label" in encode(tmp_path / "x.npy")
  assert "0 to 2 or one of Braille, Greek, Latin; received Thai" in encode("--label=Thai", tmp_path / "x.npy")
  seen = encode("--mask=upper", "--eval_k=0", tmp_path / "x.npz")
  mask = np.repeat(UPPER[np.newaxis], 3, axis=0)
  close(seen, conditional.served("encode_refined_masked", {**x(), "mask": mask}))


class TestColour:
  """The PixelCNN in colour is served as the binary one."""

  def values(self):
    return images.example_values(3, (SIDE, SIDE, 3))

  def test_its_answers_are_the_models(self, colour):
    close(colour.served("encode", self.values()), colour.model.encode(self.values())._asdict())
    z = np.float32([[0.5, -1, 0]])
    close(colour.served("decode", z), {"expected": colour.model.decode(z)})
    files = np.array([images.encode_levels(image) for image in self.values()], object)
    close(colour.served("elbo_png", files), colour.served("elbo", self.values()))

  def test_it_completes_pictures(self, colour):
    files = np.array([images.encode_levels(image) for image in self.values()], object)
    given = {
      "image_bytes": files,
      "mask": np.repeat(UPPER[np.newaxis], 3, 0),
      "seed": np.arange(3, dtype=np.int32),
    }
    whole = colour.served("complete_png", given)["x"]
    np.testing.assert_allclose(whole[:, :4], self.values()[:, :4], atol=1e-6)
    assert np.ptp(whole[:, 4:], axis=0).max() > 0.1

  def test_encode_reads_pictures_and_masks(self, colour, tmp_path):
    Image.fromarray(np.uint8(255 * self.values()[0])).save(tmp_path / "a.png")
    out = tmp_path / "out.npz"
    arguments = [f"--run_dir={colour.run}", f"--output={out}", "--mask=left", "--eval_k=0"]
    assert encode_command.main(["encode", *arguments, str(tmp_path / "a.png")]) == 0
    mask = masks.of_half("left", SIDE, SIDE)[np.newaxis]
    close(np.load(out), colour.served("encode_refined_masked", {"x": self.values()[:1], "mask": mask}))


class TestOwnModel:
  """`SAVAE.export` of a model of several parts."""

  def model(self, names=("image", "label")):
    keras.utils.set_random_seed(0)
    parts = dict(zip(("observed", "given"), names, strict=True))
    encoder = ConditionalEncoder(ResNetEncoder(2, (3,)), 3, **parts)
    decoder = ConditionalDecoder(MLPDecoder(5, (SIDE, SIDE, 1), units=(4,)), 3, **parts)
    return SAVAE(encoder, decoder, svi=SVISettings(2, 0.05))

  def test_a_dict_is_served_by_its_names(self, tmp_path):
    model = self.model()
    model.export(tmp_path / "1", k=(0, 2), inputs=x())
    served = Served(tmp_path / "1", gate.interfaces(gate.read_meta_graph(tmp_path / "1")))
    close(served("encode", x()), model.encode(x())._asdict())
    assert "complete" not in served._interfaces
    alone = [model.predict({k: v[i : i + 1] for k, v in x().items()}, verbose=0)["mean"] for i in range(3)]
    close(served("serve", x()), {"mean": np.concatenate(alone)})
    z = np.ones([3, 2], np.float32)
    label = x()["label"]
    close(served("decode", {"z": z, "label": label}), {"decoded": model.decode(z, condition=label)})

  def test_a_tuple_is_served_by_its_places_with_made_up_examples(self, tmp_path):
    model = self.model((0, 1))
    pair = tuple(x().values())
    model.ensure_built(pair)
    model.export(tmp_path / "1", k=0, masks=True)
    served = Served(tmp_path / "1", gate.interfaces(gate.read_meta_graph(tmp_path / "1")))
    close(served("encode", {"x_0": pair[0], "x_1": pair[1]}), model.encode(pair)._asdict())
    assert served._interfaces["complete"].inputs.keys() == {"x_0", "x_1", "mask", "seed"}

  def test_masks_need_a_decoder_of_parts(self, tmp_path):
    from tests import tiny

    model = SAVAE(tiny.PairEncoder(), tiny.BernoulliDecoder(), "vae")
    with pytest.raises(UserError, match="masks need a decoder with a method log_prob_of_parts"):
      model.export(tmp_path / "1", inputs=tiny.bits(dtype="float32").numpy(), masks=True)
    assert not list(tmp_path.iterdir())
