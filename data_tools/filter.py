"""Mark clips that do not meet an expression. They stay in the manifest, with the condition that they failed."""

from dataclasses import replace
from typing import Any

from data_tools.expression import Expression
from t2v.data.manifest import COLUMNS, ClipRow


def filtered(rows: list[ClipRow], text: str) -> list[ClipRow]:
    """The rows, those usable ones that fail the expression with the first failed condition in the column `filtered`.

    Raises:
        InputError: the expression cannot be used with these rows.
    """
    columns = {*COLUMNS, "seconds", *(name for row in rows for name in row.extra)}
    conditions = Expression(text, columns).parts
    return [_judged(row, conditions) for row in rows]


def values_of(row: ClipRow) -> dict[str, Any]:
    """The columns of a row, and its length in seconds."""
    return row.to_dict() | {"seconds": row.end - row.start}


def _judged(row: ClipRow, conditions: list[Expression]) -> ClipRow:
    if not row.is_usable:
        return row
    values = values_of(row)
    reason = next((condition.text for condition in conditions if not condition.holds(values)), None)
    return replace(row, extra=row.extra | {"filtered": reason and f"not {reason}"})
