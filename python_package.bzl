"""A folder of Python files as a library."""

load("@pypi//:requirements.bzl", "requirement")
load("@rules_python//python:defs.bzl", "py_library")

def python_package(name, srcs = None, deps = [], pip = [], **kwargs):
    """The Python files of a folder, which name what they import; tests/test_bazel.py compares.

    Args:
      name: of the library.
      srcs: the files; default: all of the folder.
      deps: the libraries that they import.
      pip: the packages of requirements.txt that they import.
      **kwargs: further attributes of py_library.
    """
    py_library(
        name = name,
        srcs = native.glob(["*.py"]) if srcs == None else srcs,
        deps = deps + [requirement(package) for package in pip],
        visibility = ["//visibility:public"],
        **kwargs
    )

def sources(name = "sources"):
    """All files of a folder, for tests that read them."""
    native.filegroup(
        name = name,
        srcs = native.glob(["*", "*/*.*"], exclude = ["*.pyc", "*/*.pyc"]),
        visibility = ["//visibility:public"],
    )
