"""Goals with the figures that were reached: what reports say of them, and the line that is printed."""

from typing import Any

Gate = dict[str, Any]


def make_gate(what: str, value: float | None, *, at_least: float | None = None, at_most: float | None = None) -> Gate:
    """A goal, one bound given, with the value that was reached; a value that could not be measured (None) misses it."""
    assert (at_least is None) != (at_most is None)
    if at_least is not None:
        return {"gate": what, "value": value, "at_least": at_least, "passed": value is not None and value >= at_least}
    passed = value is not None and at_most is not None and value <= at_most
    return {"gate": what, "value": value, "at_most": at_most, "passed": passed}


def gate_line(gate: Gate) -> str:
    """Whether a goal was reached, as people read it."""
    bound = f">= {gate['at_least']:.2f}" if "at_least" in gate else f"<= {gate['at_most']:.2f}"
    value = "-" if gate["value"] is None else f"{gate['value']:.2f}"
    return f"{'reached' if gate['passed'] else 'MISSED '} {gate['gate']}: {value} {bound}"
