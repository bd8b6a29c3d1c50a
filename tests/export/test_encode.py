"""`encode` gives offline what an export of the run answers, for files of every kind."""

from __future__ import annotations

import csv
import gzip
import zipfile

import numpy as np
import pytest
from exports import SEED, K, make_run
from PIL import Image

from tf_savae.commands import encode as command
from tf_savae.errors import UserError
from tf_savae.serving import encoding, images, payloads, rows


def encode(run, *files, **options):
  return encoding.encode(run, files, **{"eval_k": K, "seed": SEED, **options})


def bits(n=3):
  return (np.random.default_rng(1).random([n, 28, 28, 1]) < 0.3).astype(np.float32)


@pytest.fixture
def pngs(tmp_path):
  folder = tmp_path / "drawings"
  (folder / "inner").mkdir(parents=True)
  for i, ink in enumerate(images.example_drawings(3, 50, 60)):
    (folder / ("inner" if i == 1 else ".") / f"{i}.png").write_bytes(images.encode_png(ink))
  (folder / ".hidden.png").write_bytes(b"")
  (folder / "notes.txt").write_text("no picture")
  return folder


def same(encoded, answer, rows=slice(None)):
  for name in ("mean", "log_var", "elbo_initial", "elbo_refined"):
    np.testing.assert_allclose(encoded[name][rows], answer[name], rtol=1e-5, atol=1e-5)


def test_arrays_give_what_the_export_answers(exported, served, tmp_path):
  np.save(tmp_path / "x.npy", bits())
  np.save(tmp_path / "one.npy", bits()[0].astype(np.uint8))
  np.savez(tmp_path / "several.npz", x=bits()[..., 0].astype(bool), label=np.zeros(3))
  files = [tmp_path / name for name in ("x.npy", "one.npy", "several.npz")]
  found = encode(exported.run_dir, *files, batch_size=2)
  assert found["name"].tolist() == [
    *(f"{files[0]}:{i}" for i in range(3)),
    f"{files[1]}:0",
    *(f"{files[2]}:{i}" for i in range(3)),
  ]
  same(found, served("encode_refined", bits()[[0, 1, 2, 0, 0, 1, 2]]))
  initial = served("encode", bits())
  np.testing.assert_allclose(found["mean_initial"][:3], initial["mean"], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found["log_var_initial"][:3], initial["log_var"], rtol=1e-5, atol=1e-6)


def test_pictures_in_folders_and_zips_give_what_the_export_answers(exported, served, pngs, tmp_path):
  with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
    for file in sorted(pngs.rglob("?.png")):
      archive.write(file, file.relative_to(pngs).as_posix())
  names = ["0.png", "2.png", "inner/1.png"]
  contents = np.array([(pngs / name).read_bytes() for name in names], object)
  for place in (pngs, tmp_path / "all.zip"):
    found = encode(exported.run_dir, place)
    assert found["name"].tolist() == [f"{place}/{name}" for name in names]
    same(found, served("encode_refined_png", contents))


def test_a_jpeg_is_turned_as_its_camera_says(exported, tmp_path):
  ink = np.zeros([56, 56], np.uint8)
  ink[10:20, 5:50] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned by 90 degrees clockwise
  Image.fromarray(np.rot90(255 - ink).copy()).save(tmp_path / "turned.jpg", quality=100, exif=exif)
  Image.fromarray(255 - ink).save(tmp_path / "plain.jpeg", quality=100)
  found = encode(exported.run_dir, tmp_path / "turned.jpg", tmp_path / "plain.jpeg")
  np.testing.assert_allclose(found["mean"][0], found["mean"][1], rtol=0.05, atol=0.05)


def test_documents_give_what_the_export_answers(exported_text, served_text, tmp_path):
  (tmp_path / "a.txt").write_bytes("\ufeffthe cat\n\n a mat and \tcafé\r\n".encode())
  (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"dog dog dog"))
  found = encode(exported_text.run_dir, tmp_path / "a.txt", tmp_path / "b.txt.gz", batch_size=2)
  assert found["name"].tolist() == [f"{tmp_path}/a.txt:1", f"{tmp_path}/a.txt:3", f"{tmp_path}/b.txt.gz:1"]
  sentences = np.array(["the cat", "a mat and café", "dog dog dog"], object)
  same(found, served_text("encode_refined", np.array([s.encode() for s in sentences], object)))


def test_a_split_of_the_run_s_data(tmp_path, exported_text):
  folder = tmp_path / "data"
  folder.mkdir()
  for split in ("train", "val", "test"):
    (folder / f"{split}.txt").write_text("the cat sat\non a mat\nthe dog\n" * 3)
  found = encode(exported_text.run_dir, split="test", num=2, data_dir=folder)
  assert found["name"].tolist() == ["test:0", "test:1"]
  (tmp_path / "same.txt").write_text("the cat sat\non a mat\n")
  same(found, encode(exported_text.run_dir, tmp_path / "same.txt"))


def test_settings_of_the_steps_are_used(exported, tmp_path):
  np.save(tmp_path / "x.npy", bits())
  file = tmp_path / "x.npy"
  usual = encode(exported.run_dir, file)
  for changes in ({"svi_lr": 0.5, "svi_samples": 3}, {"svi_tolerance": 1e9}, {"svi_rule": "natural"}):
    found = encode(exported.run_dir, file, steps=changes)
    assert np.abs(found["mean"] - usual["mean"]).max() > 1e-5, changes
    np.testing.assert_allclose(found["mean_initial"], usual["mean_initial"], rtol=1e-6, atol=1e-6)
  np.testing.assert_array_equal(encode(exported.run_dir, file, eval_k=0)["mean"], usual["mean_initial"])


@pytest.mark.parametrize(("model", "has_initial"), [("svi", False), ("vae", True)])
def test_methods_without_encoder_or_refinement(model, has_initial, tmp_path):
  np.save(tmp_path / "x.npy", bits())
  found = encoding.encode(make_run(tmp_path / "run", model), [tmp_path / "x.npy"])
  assert ("mean_initial" in found) == has_initial
  if model == "vae":
    np.testing.assert_array_equal(found["mean"], found["mean_initial"])


def test_every_format_holds_the_same_and_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  encoded = {
    "name": np.array(["a,b.png", "ü.txt:1"]),
    "mean": rng.normal(size=[2, 3]).astype(np.float32),
    "elbo_refined": rng.normal(size=2).astype(np.float32),
  }
  for suffix in ("npz", "csv"):
    encoding.write(encoded, tmp_path / f"z.{suffix}")
  with np.load(tmp_path / "z.npz", allow_pickle=False) as found:
    assert set(found.files) == set(encoded)
    assert all((found[name] == value).all() for name, value in encoded.items())
  with open(tmp_path / "z.csv", encoding="utf-8", newline="") as file:
    lines = list(csv.DictReader(file))
  assert [line["name"] for line in lines] == encoded["name"].tolist()
  assert (
    np.float32([[line[f"mean_{i}"] for i in range(3)] for line in lines]).tolist() == encoded["mean"].tolist()
  )

  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(np, "savez", full)
  before = (tmp_path / "z.npz").read_bytes()
  with pytest.raises(UserError, match=r"cannot write .*z.npz: No space left"):
    encoding.write(encoded, tmp_path / "z.npz")
  assert (tmp_path / "z.npz").read_bytes() == before
  assert len(list(tmp_path.iterdir())) == 2


def test_parquet_has_lists(tmp_path):
  parquet = pytest.importorskip("pyarrow.parquet")
  encoded = {
    "name": np.array(["a", "b"]),
    "mean": np.float32([[1, 2], [3, 4]]),
    "elbo_refined": np.float32([5, 6]),
  }
  encoding.write(encoded, tmp_path / "z.parquet")
  table = parquet.read_table(tmp_path / "z.parquet")
  assert table.column("name").to_pylist() == ["a", "b"]
  assert table.column("mean").to_pylist() == [[1, 2], [3, 4]]
  assert str(table.schema.field("mean").type) == "fixed_size_list<element: float>[2]"


def run_command(capsys, *arguments):
  status = command.main(["encode", *map(str, arguments)])
  out, err = capsys.readouterr()
  return status, out, err


def test_the_command_writes_the_file(exported, pngs, tmp_path, capsys):
  output = tmp_path / "z.npz"
  status, out, _ = run_command(
    capsys, f"--run_dir={exported.run_dir}", f"--output={output}", "--eval_k=1", pngs
  )
  assert status == 0 and "3 rows" in out
  assert np.load(output)["mean"].shape == (3, 3)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--output=z.npz", "x.npy"], "--run_dir is needed"),
    (
      ["--run_dir=r", "--output=z.json", "x.npy"],
      "--output must end in .npz, .csv, .parquet; received z.json",
    ),
    (["--run_dir=r", "--output=gs://b/z.npz", "x.npy"], "not a URL; received gs://b/z.npz"),
    (
      ["--run_dir=r", "--output=z.npz"],
      "name files to encode, or a --split of the run's data; received neither",
    ),
    (["--run_dir=r", "--output=z.npz", "--split=test", "x.npy"], "received both --split=test and x.npy"),
    (["--run_dir=r", "--output=z.npz", "--num=3", "x.npy"], "--num is for a --split; received files"),
  ],
)
def test_a_wrong_command_line_is_one_line(arguments, message, capsys):
  status, out, err = run_command(capsys, *arguments)
  assert (status, out) == (2, "") and err.count("\n") == 1 and message in err


def test_without_pyarrow_there_is_one_line(monkeypatch, capsys):
  monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
  status, _, err = run_command(capsys, "--run_dir=r", "--output=z.parquet", "x.npy")
  assert status == 2 and "pip install 'tf_savae[parquet]'" in err
  with pytest.raises(UserError, match="needs pyarrow"):
    encoding.check_output("z.parquet")


def bad_files(folder):
  """Names of unusable files for a model of images, and what is said of each."""
  (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
  (folder / "broken.jpg").write_bytes(b"no jpeg")
  (folder / "broken.zip").write_bytes(b"no zip")
  (folder / "broken.npy").write_bytes(b"\x93NUMPY")
  (folder / "empty").mkdir()
  np.save(folder / "shape.npy", np.zeros([2, 5, 5, 1], np.float32))
  np.save(folder / "grey.npy", np.full([2, 28, 28, 1], 128, np.uint8))
  np.save(folder / "nan.npy", np.full([2, 28, 28, 1], np.nan, np.float32))
  np.save(folder / "words.npy", np.array(["a"]))
  np.save(folder / "none.npy", np.zeros([0, 28, 28, 1], np.float32))
  np.savez(folder / "two.npz", a=bits(), b=bits())
  (folder / "text.txt").write_text("words")
  return {
    "absent.png": "does not exist",
    "broken.png": "image_bytes must be PNG",
    "broken.jpg": "broken.jpg cannot be read",
    "broken.zip": "cannot be read as a zip",
    "broken.npy": "cannot be read as a NumPy file",
    "empty": "has no PNG or JPEG files",
    "shape.npy": r"must have the shape \[28, 28, 1\] or \[n, 28, 28, 1\]; received \[2, 5, 5, 1\]",
    "grey.npy": "the decoder's likelihood is of numbers from 0 to 1",
    "nan.npy": "is not finite",
    "words.npy": "must hold float32; received <U1",
    "none.npy": "there is nothing to encode",
    "two.npz": "has several arrays; call one of them x",
    "text.txt": "the model takes PNG or JPEG files, folders or zips of them, .npy or .npz arrays; received",
  }


def test_bad_files_are_one_line_that_names_them(exported, tmp_path):
  np.save(tmp_path / "good.npy", bits())
  form = payloads.of(exported.trained, SEED)
  encoder = encoding.Encoder(exported.model, form, SEED)
  for name, message in bad_files(tmp_path).items():
    files = [tmp_path / name] if name == "none.npy" else [tmp_path / "good.npy", tmp_path / name]
    with pytest.raises(UserError, match=message) as caught:
      encoder(rows.of_files(files, form), batch_size=2)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or name == "none.npy"


def test_the_line_of_a_document_that_is_too_long_is_named(exported_text, tmp_path):
  (tmp_path / "a.txt").write_text("the cat\n\n" + "cat " * 50 + "\nthe dog\n")
  with pytest.raises(UserError, match=r"a.txt:3: sentence must have at most 12 words; received: 50"):
    encode(exported_text.run_dir, tmp_path / "a.txt")


def test_runs_that_cannot_be_encoded_with(tmp_path):
  np.save(tmp_path / "x.npy", bits())
  with pytest.raises(UserError, match="--model=autoreg, which has no posterior"):
    encode(make_run(tmp_path / "autoreg", "autoreg"), tmp_path / "x.npy", eval_k=None)
  learned = make_run(tmp_path / "learned", learn_svi_lr="step")
  with pytest.raises(UserError, match="has learned its steps"):
    encode(learned, tmp_path / "x.npy", steps={"svi_lr": 0.1})
