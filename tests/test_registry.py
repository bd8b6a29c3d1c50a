"""`Registry`: names without imports, parts on demand, one part for a name."""

from __future__ import annotations

import pytest

from tf_savae.registry import Registry


@pytest.fixture
def registry():
  return Registry("fraction", {"half": "fractions:Fraction"})


def test_names_are_known_without_an_import():
  assert Registry("thing", {"a": "no.such.module:A"}).names() == ("a",)


def test_a_built_in_part_is_imported_when_asked_for(registry):
  from fractions import Fraction

  assert registry.get("half") is Fraction


def test_a_registered_part_comes_last_and_is_found(registry):
  part = object()
  assert registry.register("third", part) is part
  assert registry.names() == ("half", "third") and registry.get("third") is part and "third" in registry


def test_a_name_is_taken_once_but_the_same_part_may_come_again(registry):
  part = object()
  registry.register("third", part)
  registry.register("third", part)
  with pytest.raises(ValueError, match=r"There is a fraction of that name already. Received: 'third'"):
    registry.register("third", object())
  with pytest.raises(ValueError, match="not empty"):
    registry.register("", object())


def test_a_part_knows_its_name_and_one_without_is_refused(registry):
  from fractions import Fraction

  assert registry.name_of(Fraction) == "half" and list(registry) == ["half"] and registry["half"] is Fraction
  with pytest.raises(ValueError, match=r"register it. Received: int"):
    registry.name_of(int)


def test_an_unknown_name_is_one_line_that_lists_the_names(registry):
  with pytest.raises(ValueError, match=r"Unknown fraction; the names are half. Received: 'quarter'"):
    registry.get("quarter")
