import pytest

from t2v.evaluation.gate import gate_line, make_gate


@pytest.mark.parametrize(
    ("bounds", "value", "line"),
    [
        ({"at_least": 0.5}, 0.5, "reached gain: 0.50 >= 0.50"),
        ({"at_least": 0.5}, 0.4, "MISSED  gain: 0.40 >= 0.50"),
        ({"at_most": 0.0}, 0.0, "reached gain: 0.00 <= 0.00"),
        ({"at_most": 0.0}, 0.1, "MISSED  gain: 0.10 <= 0.00"),
        ({"at_most": 0.0}, None, "MISSED  gain: - <= 0.00"),
        ({"at_least": 0.0}, None, "MISSED  gain: - >= 0.00"),
    ],
)
def test_gate_says_whether_it_was_reached(bounds, value, line):
    gate = make_gate("gain", value, **bounds)
    assert gate_line(gate) == line
    assert gate == {"gate": "gain", "value": value, **bounds, "passed": line.startswith("reached")}
