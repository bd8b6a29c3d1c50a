"""A program's name says what is run; both sides get the same setting."""

from __future__ import annotations

import sys

import pytest

from benchmarks.programs import DEFAULT, Program, Setting
from tf_savae.errors import UserError
from tf_savae.svi import ADJOINTS

TEXT = Setting("text", 5, 4, threads=2, tokens=60)


@pytest.mark.parametrize("name", DEFAULT)
def test_every_program_is_told_the_setting(name):
  program = Program.parse(name)
  for command in (
    program.step(TEXT, 3, "torch/python"),
    program.gradients(TEXT, "P", "G", "torch/python", "float32"),
  ):
    assert command[0] == (sys.executable if name == "ours" else "torch/python")
    assert {"--workload=text", "--k=5", "--batch=4", "--threads=2", "--tokens=60"} <= set(command)
  assert {"--point=P", "--dump=G"} <= set(command)


def test_options_become_flags():
  program = Program.parse("finite_difference:compile,lstm=loop")
  assert program.step(TEXT, 3, "python")[-3:] == ["--compile", "--lstm=loop", "--steps=3"]
  assert program.title == "PyTorch, the paper's finite differences (compile, lstm=loop)"


def test_options_that_change_no_number_are_not_for_the_gradients_of_ours():
  program = Program.parse("ours:adjoint=unrolled,jit_compile=true")
  assert "--jit_compile=true" in program.step(TEXT, 3, "")
  command = program.gradients(TEXT, "P", "G", "", "float32")
  assert "--adjoint=unrolled" in command and "--precision=float32" in command
  assert not any("jit" in word for word in command)


def test_a_variant_has_its_precision_but_in_float64():
  program = Program.parse("ours:precision=mixed_bfloat16")
  assert "--precision=mixed_bfloat16" in program.gradients(TEXT, "P", "G", "", "float32")
  assert "--precision=float64" in program.gradients(TEXT, "P", "G", "", "float64")


@pytest.mark.parametrize("name", ["theirs", "", "hvp:a b", "ours;rm"])
def test_a_name_that_is_no_program_is_an_error(name):
  with pytest.raises(UserError, match="received"):
    Program.parse(name)


def test_passes_are_counted_where_they_are_fixed():
  assert Program.parse("ours").passes(5) == 43
  assert Program.parse("unrolled").passes(5) == Program.parse("finite_difference").passes(5) == 33
  depends = ("truncated", "implicit")  # on a setting, or on the data
  assert all(Program.parse(f"ours:adjoint={a}").passes(5) is None for a in depends)
  assert all(Program.parse(f"ours:adjoint={a}").passes(1) for a in ADJOINTS if a not in depends)


def test_settings_have_names_of_their_own():
  settings = [TEXT, Setting("text", 5, 4), Setting("image", 5, 4), Setting("image", 5, 4, sizes="tiny")]
  assert len({setting.name for setting in settings}) == len(settings)
