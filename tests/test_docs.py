"""The documentation is true: the examples run, and every public name says what it should."""

from __future__ import annotations

import doctest
import inspect
import re
import warnings
from pathlib import Path

import pytest

import fastlse

PUBLIC = [
    "LogSumExpState",
    "available_backends",
    "backend",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "expit",
    "get_num_threads",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "log1mexp",
    "log_expit",
    "log_softmax",
    "logcumsumexp",
    "logmeanexp",
    "logsubexp",
    "logsumexp",
    "logsumexp_and_softmax",
    "nll_loss",
    "segment_logsumexp",
    "segment_softmax",
    "set_num_threads",
    "show_config",
    "softmax",
    "softplus",
    "threads",
    "use_backend",
]
OPERATIONS = [
    "LogSumExpState",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "expit",
    "log1mexp",
    "log_expit",
    "log_softmax",
    "logcumsumexp",
    "logmeanexp",
    "logsubexp",
    "logsumexp",
    "logsumexp_and_softmax",
    "nll_loss",
    "segment_logsumexp",
    "segment_softmax",
    "softmax",
    "softplus",
]
SIGNATURES = {
    "logsumexp": "(a, axis=None, b=None, keepdims=False, return_sign=False, *, "
    "where=None, out=None, n_threads=None)",
    "softmax": "(x, axis=None, *, where=None, out=None, n_threads=None)",
    "log_softmax": "(x, axis=None, *, where=None, out=None, n_threads=None)",
    "logsumexp_and_softmax": "(x, axis=-1, *, out=None, n_threads=None)",
    "logmeanexp": "(a, axis=None, keepdims=False, *, where=None, out=None, n_threads=None)",
    "logcumsumexp": "(x, axis, *, exclusive=False, reverse=False, n_threads=None)",
    "logsubexp": "(x, y, *, out=None)",
    "log1mexp": "(x, *, out=None)",
    "nll_loss": "(log_probs, target, weight=None, *, axis=-1, sample_weight=None, "
    "ignore_index=-100, reduction='mean')",
    "segment_logsumexp": "(x, segment_ids=None, num_segments=None, *, indptr=None, n_threads=None)",
    "segment_softmax": "(x, segment_ids=None, num_segments=None, *, indptr=None, n_threads=None)",
    "binary_cross_entropy_with_logits": "(logits, target, weight=None, *, pos_weight=None, "
    "reduction='mean', n_threads=None)",
    "binary_cross_entropy_with_logits_and_grad": "(logits, target, weight=None, *, "
    "pos_weight=None, reduction='mean', n_threads=None, out=None)",
    "expit": "(x, *, out=None)",
    "log_expit": "(x, *, out=None)",
    "softplus": "(x, *, out=None)",
    "set_num_threads": "(n)",
    "get_num_threads": "()",
    "threads": "(n)",
    "backend": "()",
    "available_backends": "()",
    "use_backend": "(name)",
    "show_config": "()",
}
README = Path(__file__).parent.parent / "README.md"

each_name = pytest.mark.parametrize("name", PUBLIC)
each_operation = pytest.mark.parametrize("name", OPERATIONS)


def test_public_names():
    assert sorted(fastlse.__all__) == sorted(["__version__", *PUBLIC])
    for name in fastlse.__all__:
        assert hasattr(fastlse, name)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", fastlse.__version__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    """Names, order and defaults of the arguments are the contract's; annotations are left out."""
    signature = inspect.signature(getattr(fastlse, name))
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    plain = signature.replace(parameters=parameters, return_annotation=signature.empty)
    assert str(plain) == SIGNATURES[name]


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_and_grad"])
def test_signatures_of_the_losses(name):
    parameters = inspect.signature(getattr(fastlse, name)).parameters
    defaults = {
        "weight": None,
        "axis": -1,
        "sample_weight": None,
        "ignore_index": -100,
        "reduction": "mean",
        "label_smoothing": 0.0,
        "z_loss": 0.0,
        "softcap": None,
        "n_threads": None,
    }
    names = [key for key in parameters if key != "out"]
    assert names == ["logits", "target", *defaults]
    for key, default in defaults.items():
        assert parameters[key].default == default
    keywords = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert keywords == list(parameters)[3:]
    assert ("out" in parameters) == (name == "cross_entropy_and_grad")


@each_name
def test_examples(name):
    documented = getattr(fastlse, name)
    tests = doctest.DocTestFinder(recurse=False).find(documented, name, globs={})
    runner = doctest.DocTestRunner()
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
    assert runner.tries > 0, "no example"


@each_name
def test_sections(name):
    """Parameters where there are some, Returns where something is returned, Examples."""
    documented = getattr(fastlse, name)
    doc = inspect.getdoc(documented)
    sections = re.findall(r"^(\w[\w ]*)\n-+$", doc, re.MULTILINE)
    summary = doc.split("\n\n")[0]
    assert summary.endswith(".")
    assert "\n" not in summary or name == "threads"
    assert "Examples" in sections
    assert ("Parameters" in sections) == bool(inspect.signature(documented).parameters)
    nothing = ("LogSumExpState", "set_num_threads", "show_config", "threads", "use_backend")
    if name not in nothing:
        assert "Returns" in sections
    if inspect.signature(documented).parameters:
        assert "Raises" in sections


@each_name
def test_every_parameter_is_documented(name):
    documented = getattr(fastlse, name)
    doc = inspect.getdoc(documented)
    parameters = list(inspect.signature(documented).parameters)
    if not parameters:
        return
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$|\Z)", doc, re.DOTALL | re.MULTILINE)
    # "name : type", or "several, names" that are as for another function
    heads = re.findall(r"^(\w[\w, ]*?)(?: :.*)?$", section[1], re.MULTILINE)
    names = [word for head in heads for word in re.split(r",\s*", head) if word]
    assert sorted(names) == sorted(parameters)


@each_operation
def test_operations_say_more(name):
    """Accuracy and edge cases are in the notes; the bound by its constant's name."""
    doc = inspect.getdoc(getattr(fastlse, name))
    for word in ("Raises", "Notes", "See Also", "NaN"):
        if name == "logsumexp_and_softmax" and word == "NaN":
            continue  # it points to the two that it joins
        assert word in doc
    named = re.findall(r"``(\w+_ULP)``", doc)
    assert named
    for constant in named:
        modules = [module for module in vars(fastlse).values() if hasattr(module, constant)]
        assert 1 <= getattr(modules[0], constant) <= 6


def test_readme():
    """The README's Python blocks run, one after the other, without a warning."""
    if not README.is_file():
        pytest.skip("the tests are not beside the README")
    flags = re.DOTALL | re.MULTILINE
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), flags)
    if not blocks:
        pytest.skip("the README holds no Python block")
    parser, runner, report = doctest.DocTestParser(), doctest.DocTestRunner(), []
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks:
            if ">>>" in block:
                test = parser.get_doctest(block, names, "README.md", str(README), 0)
                runner.run(test, out=report.append, clear_globs=False)
                names = test.globs
            else:
                exec(compile(block, str(README), "exec"), names)
    assert not report, "".join(report)
    assert "fastlse" in names
