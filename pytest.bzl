"""A file of tests that pytest runs, as a target."""

load("@rules_python//python:defs.bzl", "py_test")

def _of_developers(names):
    """The labels of packages that requirements-dev.txt pins.

    Without modules (Bazel 4, .ci/bazel_check) there is no such hub, and the packages are the interpreter's.
    """
    module_name = getattr(native, "module_name", None)
    if not (module_name and module_name()):
        return []
    return ["@pypi_dev//" + name.replace("-", "_") for name in names]

def pytest_test(name, src, deps = [], data = [], dev = [], **kwargs):
    """A py_test that runs pytest on one file.

    Args:
      name: of the target; that of the file, without .py.
      src: the file.
      deps: what the file imports, but for pytest.
      data: the files that it reads.
      dev: the packages of requirements-dev.txt that it needs besides pytest.
      **kwargs: further attributes of py_test.
    """
    py_test(
        name = name,
        srcs = [
            src,
            "tests/run_pytest.py",
        ],
        args = [src],
        data = data + ["pyproject.toml"],
        # tests/ has no __init__.py files, and pytest takes a directory for a package where one is.
        legacy_create_init = 0,
        main = "tests/run_pytest.py",
        deps = deps + _of_developers(["pytest"] + dev),
        **kwargs
    )

def pytest_tests(folder, deps = [], data = [], dev = []):
    """A target for each file of tests in a folder, called like the file.

    Args:
      folder: of the files.
      deps: what they import, but for pytest.
      data: the files that they read.
      dev: the packages of requirements-dev.txt that they need besides pytest.
    """
    for src in native.glob([folder + "/test_*.py"]):
        pytest_test(
            name = src.rpartition("/")[2][:-len(".py")],
            src = src,
            data = data,
            deps = deps,
            dev = dev,
        )
