"""The documents hold together, and the numerics guide says what the code says: tables, bounds."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from reference import needs_longdouble

import fastlse

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "numerics.md"
NAIVE_FORMS = ROOT / "tools" / "naive_forms.py"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])

needs_guide = pytest.mark.skipif(not GUIDE.is_file(), reason="the tests are not beside the guide")
needs_tools = pytest.mark.skipif(
    not NAIVE_FORMS.is_file(), reason="the tests are not beside the tools"
)
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
)


def without_code(document: Path) -> str:
    """A document's text but for its fenced and indented blocks of code."""
    fences = re.split(r"^```.*$", document.read_text("utf-8"), flags=re.MULTILINE)
    assert len(fences) % 2 == 1, "a block of code does not end"
    return re.sub(r"^    .*$", "", "\n".join(fences[::2]), flags=re.MULTILINE)


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text: rows of cells, without the line below the header."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        assert set("".join(rows[1])) <= set("-:"), "a table has no header"
        found.append([rows[0], *rows[2:]])
    return found


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@each_document
def test_tables_are_whole(document):
    for rows in tables(without_code(document)):
        assert {len(row) for row in rows} == {len(rows[0])}, rows


@each_document
def test_links_lead_somewhere(document):
    text = without_code(document)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    links += re.findall(r"(?:src|srcset)=\"([^\"]+)\"", text)
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


@needs_guide
def test_examples_of_the_guide(backend):
    """The guide's Python blocks run, one after the other; they assert what they show."""
    flags = re.DOTALL | re.MULTILINE
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), flags)
    assert blocks
    names = {}
    for block in blocks:
        assert "assert" in block
        exec(compile(block, str(GUIDE), "exec"), names)


@needs_guide
def test_the_guide_states_every_bound():
    """The table of bounds is that of the code's constants: none missing, none other."""
    stated = {
        row[1].strip("`"): float(row[2])
        for rows in tables(without_code(GUIDE))
        if rows[0] == ["result", "constant", "value"]
        for row in rows[1:]
    }
    package = Path(fastlse.__file__).parent
    constants = {}
    for path in [*package.glob("*.py"), package / "_backends" / "numpy.py"]:
        module = ".".join(["fastlse", *path.relative_to(package).with_suffix("").parts])
        assigned = r"^(\w+_(?:ULP|ERROR)|ULP_FACTOR)\b.*="
        for name in re.findall(assigned, path.read_text("utf-8"), re.MULTILINE):
            constants[f"{module}.{name}"] = getattr(importlib.import_module(module), name)
    assert constants
    assert stated == constants


@needs_guide
@needs_tools
@needs_longdouble
def test_tables_of_the_guide(compiled_backend):
    """They are what tools/naive_forms.py prints.

    But for what the naive and the usual forms make of the rounding of NumPy's exp and log, which
    differs between processors: see `rounding`.
    """
    spec = importlib.util.spec_from_file_location("naive_forms", NAIVE_FORMS)
    naive_forms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(naive_forms)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        naive_forms.print_tables()
    printed, guide = tables(output.getvalue()), tables(without_code(GUIDE))
    assert printed
    for rows in printed:
        (stated,) = [candidate for candidate in guide if same_labels(candidate, rows)]
        for said, now in zip(stated[1:], rows[1:], strict=True):
            for column, ours, theirs in zip(rows[0], said, now, strict=True):
                if column.startswith(("naive", "usual")):
                    slack = rounding(column, dict(zip(rows[0], now, strict=True)))
                    close = np.isclose(float(ours), float(theirs), 0, slack, equal_nan=True)
                    assert close, (column, now)
                else:
                    assert ours == theirs, (column, now)


def same_labels(a: list[list[str]], b: list[list[str]]) -> bool:
    """Whether two tables have one header, and in the first row the same number at the end."""
    return a[0] == b[0] and len(a) == len(b) and a[1][-1] == b[1][-1]


def rounding(column: str, row: dict[str, str]) -> float:
    """Two roundings of a p near 1, over 1 - p where that is what the logarithm is of."""
    slack = 2 * np.finfo(row.get("dtype", "float64")).eps
    return slack * math.exp(min(float(row["logit"]), 20)) if " " in column else slack
