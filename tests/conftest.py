"""Fixtures that every test may use; the helpers beside this file are imported by their names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import fastlse

# The tests are no package: their helpers (reference, operations, subprocesses) are modules.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=fastlse.available_backends())
def backend(request):
    """Each backend that this machine runs, serving for the length of a test; its name."""
    with fastlse.use_backend(request.param):
        yield request.param


@pytest.fixture(params=[name for name in fastlse.available_backends() if name != "numpy"])
def compiled_backend(request):
    """Each compiled backend that this machine runs, serving for the length of a test; its name."""
    with fastlse.use_backend(request.param):
        yield request.param


@pytest.fixture
def threads_for_small_problems(monkeypatch):
    """Let small problems have threads, which only large ones are worth."""
    monkeypatch.setattr(fastlse._threads, "ELEMENTS_PER_THREAD", 32)
