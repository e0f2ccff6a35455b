import pytest

from data_tools.expression import Expression
from data_tools.filter import filtered
from data_tools.stats import outcome_lines, score_lines
from t2v.data.manifest import ClipRow
from t2v.errors import InputError

COLUMNS = {"a", "b", "name", "path"}
ROW = {"a": 2, "b": 0.5, "name": "cat", "missing": None, "path": "x.mp4"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a > 1", True),
        ("a > 1 and b > 1", False),
        ("a > 1 or b > 1", True),
        ("not a == 2", False),
        ("1 < a <= 2", True),
        ("a * b + 1 == 2", True),
        ("-a < b - 0.1 / 2", True),
        ("name == 'cat'", True),
        ("name in ['dog', 'cat']", True),
        ("'do' in name", False),
        ("missing > 1", False),
        ("missing <= 1", False),
        ("missing + 1 > 0", False),
        ("missing == None", True),
    ],
)
def test_conditions(text, expected):
    assert Expression(text, {*COLUMNS, "missing"}).holds(ROW) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a >", "cannot read the expression"),
        ("c > 1", "no column 'c' in the manifest; it has a, b"),
        ("__import__('os').system('true')", "is not allowed"),
        ("name.upper() == 'CAT'", "is not allowed"),
        ("[x for x in name]", "is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("a ** 99999999", "is not allowed"),
        ("f'{a}' == '2'", "is not allowed"),
        ("a is 2", "is not allowed"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Expression(text, COLUMNS)


@pytest.mark.parametrize("text", ["name > 1", "a / (b - 0.5) > 1"])
def test_what_cannot_be_evaluated_is_the_users_mistake(text):
    with pytest.raises(InputError, match=r"cannot evaluate .* on x\.mp4"):
        Expression(text, COLUMNS).holds(ROW)


def _rows():
    good = [ClipRow(f"id{i}", f"{i}.mp4", end=1.0 + i, extra={"score_motion": i / 10}) for i in range(5)]
    return [*good, ClipRow("x", "x.mp4", error="no video"), ClipRow("y", "y.mp4", extra={"filtered": "too short"})]


def test_filter_keeps_reasons_and_leaves_failed_rows_alone():
    rows = filtered(_rows(), "score_motion >= 0.1 and seconds < 4.5")
    assert [row.extra.get("filtered") for row in rows] == [
        "not score_motion >= 0.1",
        None,
        None,
        None,
        "not seconds < 4.5",
        None,
        "too short",
    ]
    assert [row.is_usable for row in rows] == [False, True, True, True, False, False, False]


def test_a_second_filter_only_narrows():
    once = filtered(_rows(), "score_motion > 0.1")
    twice = filtered(once, "seconds < 4.5")
    assert twice[0].extra["filtered"] == "not score_motion > 0.1" and twice[4].extra["filtered"] == "not seconds < 4.5"
    assert sum(row.is_usable for row in twice) == 2


def test_stats_tell_what_was_kept_and_why_not():
    text = "\n".join(outcome_lines(filtered(_rows(), "score_motion > 0.1")) + score_lines(_rows()))
    assert "kept             3  0.003 h" in text and "failed           1" in text and "filtered         3" in text
    assert "2  not score_motion > 0.1" in text and "1  no video" in text and "score_motion" in text
