"""YAML text: reads back as what was written, and lints."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aiconf.deploy.render import render

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(["yes", "1e3", "0x1", "1:30", "~", "a: b", "- a", "2001-01-01", "=", "<<"])
    | st.sampled_from(["a\nb\n", " a\nb\n", "a\n\n", "a #b", "it's", '"', "!x", "&a", "12e03", ".",
                        ".0", "._1"])
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(DOCUMENTS)
def test_reads_back(document):
    assert yaml.safe_load(render(document)) == document


def test_comments_stand_above_their_entry():
    text = render({"a": [{"b": 1}, "x"]}, {("a",): "why\na", ("a", 0, "b"): "b", ("a", 1): "one"})
    assert text == "# why a\na:\n  # b\n  - b: 1\n  # one\n  - x\n"
