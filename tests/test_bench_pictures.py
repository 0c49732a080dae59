"""The pictures of results are drawn, on light and on dark ground, from what there is."""

from __future__ import annotations

import pytest

from fastlse._bench import machine
from fastlse._bench.cases import SUITES, Case
from fastlse._bench.results import Result, Results

pytest.importorskip("matplotlib")
from fastlse._bench import pictures

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


def made_up(*suites):
    """A result for every entrant of the suites; whom the alphabet has later takes longer."""
    found = [
        Result(entrant.case, entrant.contender, (1e-9 * entrant.case.n_elements * k,), 1.0, suite)
        for suite in suites
        for race in SUITES[suite].races(1)
        for k, entrant in enumerate(race.entrants, start=1)
    ]
    return Results(machine.describe(1), found)


def test_all_pictures(tmp_path):
    written = pictures.save_all(made_up("peers", "scaling"), tmp_path)
    names = {path.name for path in written}
    assert names == {
        f"{name}-{theme}.svg"
        for name in ("speed-up", "roofline", "time")
        for theme in ("light", "dark")
    }
    for path in written:
        text = path.read_text("utf-8")
        assert text.startswith("<?xml")
        ground = "#0d1117" if "dark" in path.name else "#ffffff"
        assert ground in text


def test_only_what_the_results_suffice_for(tmp_path):
    assert pictures.save_all(made_up("layouts"), tmp_path) == []
    written = pictures.save_all(made_up("peers"), tmp_path, ".png")
    assert {path.name for path in written} == {"speed-up-light.png", "speed-up-dark.png"}
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_file(tmp_path):
    drawn = []
    for name in ("one.svg", "two.svg"):
        pictures.save_speed_up(made_up("peers"), tmp_path / name)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]


def test_without_peers_there_is_no_ratio(tmp_path):
    alone = Results(machine.describe(1), [])
    with pytest.raises(ValueError, match="no peer"):
        pictures.save_speed_up(alone, tmp_path / "ratios.png")


def test_shares_of_the_limit():
    """The limit is the slower one of moving the array and of the arithmetic at its best size."""

    def result(rows, contender, ns):
        case = Case("logsumexp", "float32", (rows, 1000))
        return Result(case, contender, (1e-9 * ns * case.n_elements,), 1.0, "scaling")

    curves = [
        result(1, "fastlse", 2.0),
        result(1, "limit read once", 0.1),
        result(1, "limit max and sum", 0.5),
        result(9, "fastlse", 2.0),
        result(9, "limit read once", 1.5),
        result(9, "limit max and sum", 1.7),
    ]
    assert pictures._shares(curves) == pytest.approx({1000: 0.25, 9000: 0.75})
