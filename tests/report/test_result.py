"""Results in Python: frame, figure, HTML, JSON, folders."""

import csv
import hashlib
import io
import json

import pytest

import aiconf
from aiconf.errors import UserError
from aiconf.report.figure import png
from aiconf.report.rows import csv_text
from aiconf.search.rows import record


@pytest.fixture(scope="module")
def found():
    return aiconf.search("QWEN3_32B", "h200_sxm", 8, isl=4000, osl=500, ttft=300, tpot=10)


@pytest.fixture(scope="module")
def one():
    return aiconf.estimate("qwen3-32b", "h200_sxm", "tp4", concurrency=8)


def test_frame_holds_all_candidates_under_the_names_of_the_csv(found):
    frame = found.frame
    assert len(frame) == found.document["evaluated"]
    assert list(frame.columns) == list(found.best)
    kept = frame[frame.meets_targets]
    searched = record(found.request, found.outcome.best)  # a replay may set it back
    assert kept.output_tok_per_s_per_gpu.max() == pytest.approx(
        searched["output_tok_per_s_per_gpu"]
    )
    assert found.best["meets_targets"]


def test_repr_is_the_report(found, one):
    assert "Top 5 aggregated" in repr(found)
    assert "Memory of the fullest GPU" in repr(one)


def test_figure(found):
    figure = found.pareto()
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:3] == ["aggregated", "disaggregated", "TPOT target 10 ms"]
    assert labels[3].startswith("best: ")
    assert png(figure).startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_figure_leaves_pyplot_alone(found):
    found.pareto()
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_figure_without_a_front():
    result = aiconf.search("QWEN3_32B", "h200_sxm", 4, osl=1, mode="agg")
    assert png(result.pareto()).startswith(b"\x89PNG")
    assert "no TPOT" in repr(result)
    assert "<table>" in result._repr_html_()


def test_html(found, one):
    page = found._repr_html_()
    assert page.startswith('<div class="aiconf">')
    assert "data:image/png;base64," in page
    assert "Top 5 disaggregated" in page
    assert page.count("<table>") == page.count("</table>")
    assert "Memory of the fullest GPU" in one._repr_html_()


def test_html_escapes(one):
    document = one.document | {"notes": ["<script>"]}
    from aiconf.report.page import estimate_page

    assert "<script>" not in estimate_page(document)


def test_same_result_same_files(found, tmp_path):
    sums = []
    for name in ("first", "second"):
        found.save(tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        sums.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert sums[0] == sums[1]


def test_force_keeps_files_of_others(found, tmp_path):
    found.save(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        found.save(tmp_path / "out")
    found.save(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_left_of_a_failed_write(found, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aiconf.report.figure.write_figures", fail)
    with pytest.raises(UserError, match=r"cannot write to .*: No space left on device"):
        found.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_candidates_file_agrees_with_the_frame(found, tmp_path):
    found.save(tmp_path / "out")
    with (tmp_path / "out" / "candidates.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for place in (0, len(rows) // 2, len(rows) - 1):
        expected = found.frame.iloc[place]
        assert rows[place]["layout"] == expected.layout
        assert float(rows[place]["ttft_ms"]) == pytest.approx(expected.ttft_ms, rel=1e-6)
        assert rows[place]["meets_targets"] == str(expected.meets_targets).lower()


def test_json_is_strict_and_complete(found, one):
    for result in (found, one):
        data = json.loads(result.to_json(), parse_constant=pytest.fail)
        assert data == result.document
        assert data["aiconf"] == aiconf.__version__


def test_csv_of_nothing_and_of_odd_texts():
    assert csv_text([]) == "\n"
    assert list(csv.reader(io.StringIO(csv_text([{"a": "x,y", "b": None, "c": True}])))) == [
        ["a", "b", "c"],
        ["x,y", "", "true"],
    ]


def test_origins_of_an_estimate(one):
    assert sum(one.origins.values()) == pytest.approx(1.0)
    assert one.frame.shape[0] == 1


def test_search_stays_the_function_although_a_folder_has_its_name():
    import importlib

    importlib.import_module("aiconf.search.request")
    assert callable(aiconf.search)
    from aiconf import search

    assert search is aiconf.search
