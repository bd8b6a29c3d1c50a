"""Networks have names by kind of data; `auto` is the first, and nothing is registered twice."""

import pytest

from tf_savae import networks
from tf_savae.networks.catalogue import Catalogue, Network


@pytest.fixture
def catalogue():
  made = Catalogue("decoder")
  made.register(
    "first", Network(lambda data, size, seed, dtype: ("first", data, size, seed, dtype)), ["a", "b"]
  )
  made.register("second", Network(lambda data, size, width, **_: width, ("width",)), ["b"])
  return made


def test_names_are_those_of_the_kind_and_auto_is_the_first(catalogue):
  assert (catalogue.names("a"), catalogue.names("b"), catalogue.names("c")) == (
    ("first",),
    ("first", "second"),
    (),
  )
  assert catalogue.names() == tuple(catalogue) == ("first", "second")
  assert (catalogue.resolve("auto", "b"), catalogue.resolve("second", "b")) == ("first", "second")
  assert catalogue.get("auto", "b") is catalogue.get("first", "a") is catalogue.find("first")
  assert catalogue.find("third") is None


def test_a_network_is_made_from_the_settings_that_it_names(catalogue):
  made = catalogue.get("first", "a").build("data", 3, seed=1, dtype="float32")
  assert made == ("first", "data", 3, 1, "float32")
  assert catalogue.get("second", "b").build("data", 3, seed=1, dtype="float32", width=7) == 7


def test_what_is_not_there_or_there_already_is_one_line(catalogue):
  with pytest.raises(ValueError, match=r"decoder of a; the names are first. Received: 'second'"):
    catalogue.get("second", "a")
  with pytest.raises(ValueError, match=r"no decoder for this kind of data.*'c'"):
    catalogue.get("auto", "c")
  with pytest.raises(ValueError, match="decoder of b of that name already"):
    catalogue.register("second", Network(None), ["b"])
  with pytest.raises(ValueError, match="either an encoder or a decoder"):
    networks.register("third", kinds=["a"])
