"""The accuracy of the tagger, on sentences tagged by hand."""

import pytest

from experiments import tagger
from tf_savae.errors import UserError
from tf_savae.evaluation import saliency_groups


def test_the_sample_is_of_documents_with_penn_tags():
  sentences = tagger.read(tagger._SENTENCES)
  assert len(sentences) == 23
  assert sentences[0][:3] == [("is", "VBZ"), ("it", "PRP"), ("possible", "JJ")]
  assert {tag for pairs in sentences for word, tag in pairs if word == "_UNK"} == {"*"}


def test_right_tags_and_right_classes_are_counted(monkeypatch):
  monkeypatch.setattr(saliency_groups, "parts_of_speech", lambda documents, name: [["NN", "VB", "DT"]])
  found = tagger.accuracy([[("a", "NNP"), ("b", "VB"), ("c", "*")]], "textblob")
  assert (found.sentences, found.tokens, found.right, found.right_class) == (1, 2, 1, 2)
  assert found.mistakes == {("NNP", "NN"): 1}


def test_the_accuracy_is_what_the_documentation_says(capsys):
  pytest.importorskip("textblob")
  assert tagger.main(["tagger"]) == 0
  line = capsys.readouterr().out.splitlines()[0]
  assert line == "23 documents, 480 tokens: 431 tags are right (89.8 %), 453 word classes (94.4 %)"


def test_a_token_without_tag_is_one_line(tmp_path):
  file = tmp_path / "wrong.txt"
  file.write_text("a/DT b\n")
  with pytest.raises(UserError, match="token without a tag"):
    tagger.read(str(file))
  with pytest.raises(UserError, match="cannot be read"):
    tagger.read(str(tmp_path / "none"))
