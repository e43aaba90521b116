"""Curves and Pareto plots."""

import sys
from pathlib import Path

import pytest

from gancompress.errors import ConfigError, DataError
from gancompress.extras import require
from gancompress.reporting.curves import Point, curves, pareto, pareto_front, read_metrics

RECORDS = [{"step": i, "g_loss": 1.0 / (i + 1), "note": "x"} for i in range(20)]


def test_front_holds_exactly_the_unbeaten():
    points = [Point("a", 1, 5), Point("b", 2, 3), Point("c", 3, 4), Point("d", 4, 1)]
    points += [Point("e", 2, 9), Point("f", 5, 1)]
    assert [p.label for p in pareto_front(points)] == ["a", "b", "d"]
    for p in points:
        beaten = any((q.x <= p.x and q.y <= p.y) and q != p for q in points)
        assert beaten == (p not in pareto_front(points))


def test_equal_data_give_equal_bytes_without_a_date():
    first, again = (curves(RECORDS, ["g_loss"], title="loss") for _ in range(2))
    assert first == again
    assert first.startswith("<svg")
    assert "dc:date" not in first
    assert curves(RECORDS[:10], ["g_loss"]) != first


def test_pareto_draws_every_method_and_the_level():
    points = [Point("ppcd", 57e3, 4.0, 0.2), Point("random", 57e3, 9.0, 1.0)]
    svg = pareto(points, x_label="parameters", y_label="Frechet", level=4.5, level_name="teacher")
    assert svg.startswith("<svg")
    assert svg != pareto(points, x_label="parameters", y_label="Frechet")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match=r"found \['g_loss', 'note', 'step'\]"):
        curves(RECORDS, ["d_loss"])
    with pytest.raises(DataError, match="at least one"):
        pareto([], x_label="x", y_label="y")
    with pytest.raises(DataError, match="'bad' is not finite"):
        pareto([Point("bad", 1, float("nan"))], x_label="x", y_label="y")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in [m for m in sys.modules if m.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[report\]'"):
        curves(RECORDS, ["g_loss"])


def test_a_broken_dependency_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken_extra.py").write_text("import certainly_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="certainly_not_installed"):
        require("broken_extra", "report")


def test_read_metrics_forgives_only_a_torn_last_line(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n\n{"step": 2}\n{"st')
    assert read_metrics(file) == [{"step": 1}, {"step": 2}]
    file.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        read_metrics(file)
    with pytest.raises(DataError, match="cannot read"):
        read_metrics(tmp_path / "none.jsonl")


def test_a_curve_of_one_point_is_seen() -> None:
    from gancompress.reporting.curves import curves

    one, two = ([{"step": i, "g_loss": 0.5} for i in range(n)] for n in (1, 2))
    assert curves(one, ["g_loss"]).count("<use") > curves(two, ["g_loss"]).count("<use")
