"""Choosing a backend: by the machine, the environment or a block of code; what can go wrong."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from subprocesses import run

import fastlse
from fastlse import _backends

PACKAGE = Path(fastlse.__file__).parent
AVAILABLE = fastlse.available_backends()
COMPILED = [name for name in AVAILABLE if name != "numpy"]

PRINT_BACKEND = "import fastlse; print(fastlse.backend())"


OF_OTHER_MACHINES = [name for name in _backends.BUILT if name not in AVAILABLE]


class TestChoice:
    def test_numpy_is_always_there(self):
        assert AVAILABLE[-1] == "numpy"
        assert set(AVAILABLE) <= {"avx512", "avx2", "baseline", "numpy"}
        assert len(set(AVAILABLE)) == len(AVAILABLE)

    def test_the_best_one_serves(self):
        flags = ("-W", "ignore") if not COMPILED else ("-W", "error")
        assert run(PRINT_BACKEND, flags=flags).stdout == f"{AVAILABLE[0]}\n"

    @pytest.mark.parametrize("name", OF_OTHER_MACHINES)
    def test_module_for_another_machine(self, name):
        with pytest.raises(ImportError, match="instructions that this machine does not have"):
            importlib.import_module(f"fastlse._backends.{name}")

    @pytest.mark.parametrize("name", AVAILABLE)
    def test_environment(self, name):
        process = run(PRINT_BACKEND, flags=("-W", "error"), FASTLSE_BACKEND=name)
        assert process.stdout == f"{name}\n"
        code = """
        import numpy as np, fastlse
        assert abs(fastlse.logsumexp([0.0, 0.0]) - np.log(2)) < 1e-15
        """
        run(code, FASTLSE_BACKEND=name)

    @pytest.mark.parametrize("name", ["AVX2", "cuda", "numpy "])
    def test_unknown_name_in_the_environment(self, name):
        process = run(PRINT_BACKEND, check=False, FASTLSE_BACKEND=name)
        assert process.returncode != 0
        assert f"FASTLSE_BACKEND={name!r}: there is no such backend" in process.stderr
        assert f"available are {', '.join(AVAILABLE)}" in process.stderr

    def test_empty_environment_is_none(self):
        flags = ("-W", "ignore")
        assert run(PRINT_BACKEND, flags=flags, FASTLSE_BACKEND="").stdout == f"{AVAILABLE[0]}\n"

    def test_use_backend(self, backend):
        assert fastlse.backend() == backend
        active = _backends.active.NAME
        assert active == backend
        assert fastlse.logsumexp([0.0, 0.0]) == pytest.approx(np.log(2), rel=1e-15)

    @pytest.mark.parametrize("name", AVAILABLE)
    def test_calls_go_to_the_backend_in_use(self, monkeypatch, name):
        with fastlse.use_backend(name):
            module = _backends.active
        called = []

        class Recorder:
            def __getattr__(self, attribute):
                called.append(attribute)
                return getattr(module, attribute)

        monkeypatch.setattr(_backends, "active", Recorder())
        fastlse.softmax([1.0, 2.0])
        fastlse.log_softmax([1.0, 2.0])
        fastlse.logsumexp([1.0, 2.0], b=[1.0, 2.0])
        fastlse.cross_entropy([[1.0, 2.0]], [0], reduction="sum")
        assert {"softmax", "log_softmax", "logsumexp", "cross_entropy"} <= set(called)

    def test_use_backend_restores(self):
        before = fastlse.backend()
        with fastlse.use_backend("numpy"):
            with fastlse.use_backend(AVAILABLE[0]):
                assert fastlse.backend() == AVAILABLE[0]
            assert fastlse.backend() == "numpy"
        assert fastlse.backend() == before
        with pytest.raises(KeyError), fastlse.use_backend("numpy"):
            raise KeyError
        assert fastlse.backend() == before

    @pytest.mark.parametrize("name", ["", "AVX2", "cuda", "numpy.linalg", "_rows"])
    def test_unknown_name(self, name):
        before = fastlse.backend()
        with pytest.raises(ValueError, match="there is no such backend") as caught:
            fastlse.use_backend(name).__enter__()
        assert repr(name) in str(caught.value)
        assert f"available are {', '.join(AVAILABLE)}" in str(caught.value)
        assert fastlse.backend() == before

    @pytest.mark.parametrize("name", [None, 1, b"numpy", np])
    def test_name_that_is_no_string(self, name):
        with pytest.raises(TypeError, match="name must be a str"):
            fastlse.use_backend(name).__enter__()

    def test_backend_of_another_machine(self, monkeypatch):
        monkeypatch.setattr(_backends, "BUILT", ("avx512", "avx2", "baseline"))
        monkeypatch.setattr(_backends, "RUNNABLE", ("baseline", "numpy"))
        message = "'avx2': this machine lacks its instructions; available are baseline, numpy"
        with pytest.raises(ValueError, match=message):
            fastlse.use_backend("avx2").__enter__()

    def test_backend_that_was_not_built(self, monkeypatch):
        monkeypatch.setattr(_backends, "BUILT", ("baseline",))
        monkeypatch.setattr(_backends, "RUNNABLE", ("baseline", "numpy"))
        message = "'avx2': it was not built; available are baseline, numpy"
        with pytest.raises(ValueError, match=message):
            fastlse.use_backend("avx2").__enter__()


class TestShowConfig:
    def test_lines(self, capsys):
        fastlse.show_config()
        lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if line)
        values = {key.strip(): value.strip() for key, value in lines.items()}
        assert values["fastlse"] == fastlse.__version__
        assert values["NumPy"] == np.__version__
        assert values["backends runnable"] == ", ".join(AVAILABLE)
        assert values["backend"] == fastlse.backend()
        assert values["threads"] == str(fastlse.get_num_threads())
        assert {"Python", "backends built", "compiler", "OpenMP"} <= values.keys()
        for name in COMPILED:
            assert values[f"flags of {name}"]

    def test_follows_the_choice(self, capsys):
        with fastlse.use_backend("numpy"), fastlse.threads(3):
            fastlse.show_config()
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["backend", "numpy"] in lines
        assert ["threads", "3"] in lines


def is_compiled(name):
    return name.endswith((".so", ".pyd", ".dylib"))


@pytest.fixture
def copy_of_package(tmp_path):
    """Copy the installed package, and name the environment in which the copy is imported."""

    def copy(keep):
        def ignored(_, names):
            return [name for name in names if is_compiled(name) and not keep(name)]

        shutil.copytree(PACKAGE, tmp_path / "fastlse", ignore=ignored)
        return {"PYTHONPATH": str(tmp_path)}

    return copy


class TestInstallations:
    def test_without_compiled_modules(self, copy_of_package):
        """The NumPy backend serves, with one warning."""
        environment = copy_of_package(lambda name: False)
        code = """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import fastlse
            fastlse.logsumexp([1.0, 2.0])
            fastlse.cross_entropy([[1.0, 2.0]], [0])
            import fastlse.losses
        print(fastlse.__file__)
        print(fastlse.backend(), fastlse.available_backends())
        print([str(warning.category.__name__) for warning in caught])
        print(caught[0].message)
        fastlse.show_config()
        """
        output = run(code, **environment).stdout.splitlines()
        assert output[0].startswith(environment["PYTHONPATH"])
        assert output[1] == "numpy ('numpy',)"
        assert output[2] == "['RuntimeWarning']"
        assert "without its compiled kernels" in output[3]
        assert "FASTLSE_BACKEND=numpy" in output[3]

    def test_without_compiled_modules_when_numpy_is_asked_for(self, copy_of_package):
        environment = copy_of_package(lambda name: False)
        process = run(PRINT_BACKEND, flags=("-W", "error"), FASTLSE_BACKEND="numpy", **environment)
        assert process.stdout == "numpy\n"

    def test_without_the_backend_that_is_asked_for(self, copy_of_package):
        environment = copy_of_package(lambda name: False)
        process = run(PRINT_BACKEND, check=False, FASTLSE_BACKEND="baseline", **environment)
        assert process.returncode != 0
        assert "it was not built; available are numpy" in process.stderr

    @pytest.mark.skipif(not COMPILED, reason="no compiled module to break")
    @pytest.mark.parametrize("module", ["_runtime", *COMPILED[:1]])
    def test_broken_module_is_an_import_error(self, copy_of_package, tmp_path, module):
        """Never a silent slow path."""
        environment = copy_of_package(lambda name: True)
        for path in (tmp_path / "fastlse" / "_backends").iterdir():
            if path.name.startswith(f"{module}.") and is_compiled(path.name):
                path.write_bytes(path.read_bytes()[:100])
        process = run(PRINT_BACKEND, check=False, **environment)
        assert process.returncode != 0
        assert process.stdout == ""
        assert "ImportError" in process.stderr
        assert module in process.stderr

    @pytest.mark.skipif(len(COMPILED) < 2, reason="one compiled backend at most")
    def test_module_that_is_left_out(self, copy_of_package):
        """What remains is chosen from."""
        environment = copy_of_package(lambda name: not name.startswith(f"{COMPILED[0]}."))
        process = run(PRINT_BACKEND, flags=("-W", "error"), **environment)
        assert process.stdout == f"{COMPILED[1]}\n"
        environment["FASTLSE_BACKEND"] = COMPILED[0]
        process = run(PRINT_BACKEND, check=False, **environment)
        assert "it was not built" in process.stderr
