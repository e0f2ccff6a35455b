"""`t2v evaluate compare`: two results beside each other, if they were measured in one way."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v.cli import options

if TYPE_CHECKING:
    from t2v.evaluation.intervals import Figure
    from t2v.evaluation.result import Result as EvaluationResult

Result = Annotated[Path, typer.Argument(help="JSON of `videos`, `images`, `pairs`, `zero-shot` or `mini-board`.")]


def compare(first: Result, second: Result, as_json: options.AsJson = False) -> None:
    """Compare two results; refused where their protocols differ, which names the first difference.

    The metrics in both are compared; 'apart' says that the 95% intervals do not overlap.
    """
    import json
    from dataclasses import asdict

    from t2v.evaluation.result import Result, compare

    found = compare(Result.read(first), Result.read(second))
    if as_json:
        lines: dict[str, Any] = {
            line.metric: {"first": asdict(line.first), "second": asdict(line.second), "is_apart": line.is_apart}
            for line in found
        }
        print(json.dumps(lines, indent=2))
        return
    width = max(len(line.metric) for line in found)
    for line in found:
        verdict = {True: "apart", False: "intervals overlap", None: "-"}[line.is_apart]
        print(f"{line.metric:<{width}}  {written(line.first)}  {written(line.second)}  {verdict}")


def print_result(result: "EvaluationResult") -> None:
    """A line for each metric."""
    width = max(len(name) for name in result.figures)
    for name, figure in result.figures.items():
        print(f"{name:<{width}}  {written(figure)}")


def written(figure: "Figure") -> str:
    """A figure as people read it: value [low, high] (n)."""
    if figure.value is None:
        return "-"
    interval = "" if figure.low is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
    return f"{figure.value:.4g}{interval} (n {figure.n})"


def number(value: float | None, digits: int) -> str:
    """A number with that many decimals; - for None."""
    return "-" if value is None else f"{value:.{digits}f}"
