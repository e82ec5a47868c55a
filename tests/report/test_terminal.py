"""Tables, bars and the Pareto front in characters."""

import io

import pytest

from aiconf.report.scatter import scatter, ticks
from aiconf.report.style import Style
from aiconf.report.table import Column, bar, table

FRONTS = {"agg": [(100.0, 100.0), (50.0, 500.0), (10.0, 1000.0)], "disagg": [(100.0, 100.0)]}
ASCII = Style(unicode=False)


def test_table_aligns_texts_left_and_numbers_right():
    columns = [Column("name", "name"), Column("value", "value", 1), Column("kept", "kept")]
    rows = [{"name": "a", "value": 1234.56, "kept": True}, {"name": "long", "value": None}]
    assert table(columns, rows, "  ").split("\n") == [
        "  name    value  kept",
        "  a     1,234.6  yes",
        "  long        -  -",
    ]


@pytest.mark.parametrize(("share", "drawn"), [(0, ""), (0.5, "##"), (1, "####"), (7, "####")])
def test_bar_in_ascii(share, drawn):
    assert bar(share, 4, ASCII) == drawn.ljust(4)


def test_bar_in_eighths():
    assert bar(0.53, 4, Style()) == "██▏ "


@pytest.mark.parametrize("top", [0.003, 0.9, 1.0, 7.3, 99.0, 1001.0, 123456.0])
def test_ticks_are_few_and_reach_the_top(top):
    found = ticks(top, 8)
    assert found[0] == 0
    assert found[-1] >= top > found[-2]
    assert len(found) <= 10


def test_scatter_in_ascii():
    drawn = scatter(FRONTS, 50.0, ASCII, width=41, height=5)
    assert drawn.split("\n") == [
        "  o aggregated   x disaggregated   * both   : TPOT target 20 ms = 50 tok/s/user",
        "  output tok/s/GPU",
        "   1,000 |    o               :",
        "     750 |                    :",
        "     500 |                    o",
        "     250 |                    :",
        "       0 |                    :                   *",
        "         +-----------------------------------------",
        "          0      20      40      60      80      100",
        "                                         tok/s/user",
    ]


def test_scatter_marks_both_and_the_target():
    lines = scatter(FRONTS, 50.0, Style(), width=60, height=10).split("\n")
    body = "\n".join(lines[2:12])
    assert body.count("○") == 2
    assert body.count("◉") == 1
    assert body.count("┊") == 9  # one row of the line is under a mark
    assert lines[-1].strip() == "tok/s/user"


def test_scatter_without_points_or_with_a_far_target():
    assert "no Pareto front" in scatter({"agg": [], "disagg": []}, None, ASCII)
    drawn = scatter(FRONTS, 10_000.0, ASCII)
    assert "lies far to the right" in drawn
    assert ":" not in drawn.split("\n", 1)[1]


def test_colour_only_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Style.of(Terminal()).colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Style.of(Terminal()).colour
    assert "\x1b[36m○\x1b[0m" in scatter(FRONTS, None, Style(colour=True))
