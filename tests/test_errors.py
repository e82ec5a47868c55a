import pytest

from aiconf.errors import UserError, nearest, unknown

NAMES = ["h200_sxm", "h100_sxm", "gb200", "gb300", "b200_sxm"]


def test_the_nearest_names_come_first():
    assert nearest("h200", NAMES)[0] == "h200_sxm"
    assert nearest("H200-SXM", NAMES)[0] == "h200_sxm"
    assert nearest("zzz", NAMES) == []


def test_a_near_miss_is_suggested():
    text = str(unknown("system", "gb20", NAMES))
    assert text.startswith("unknown system 'gb20': did you mean gb")


def test_few_choices_are_listed_and_many_counted():
    assert "known: " + ", ".join(NAMES) in str(unknown("system", "?", NAMES))
    many = [f"name{i:03d}" for i in range(50)]
    assert "50 are known" in str(unknown("thing", "?", many))


@pytest.mark.parametrize("name", ["?", "", "gb20", "x" * 500])
def test_the_message_is_one_line(name):
    error = unknown("system", name, NAMES)
    assert isinstance(error, UserError)
    assert "\n" not in str(error)
