"""Conditions on the columns of a row, such as `score_motion > 0.02 and score_text < 0.5`: a safe part of Python."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from t2v.errors import InputError

_COMPARISONS: dict[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Expression:
    """A condition that rows meet or not.

    Names are columns; numbers, strings, lists, comparisons, + - * /, and, or, not are understood, nothing else. A
    comparison with a missing value does not hold, `column == None` asks for it.

    Args:
        text: the expression.
        columns: that rows may have.

    Raises:
        InputError: it cannot be read, does something else, or names an unknown column.
    """

    def __init__(self, text: str, columns: set[str]) -> None:
        self.text = " ".join(text.split())
        try:
            self._tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise InputError(f"cannot read the expression {self.text!r} ({getattr(error, 'msg', error)})") from None
        self._check(self._tree, columns)

    @property
    def parts(self) -> list["Expression"]:
        """The conditions that `and` joins, each by itself."""
        if not (isinstance(self._tree, ast.BoolOp) and isinstance(self._tree.op, ast.And)):
            return [self]
        return [self._part(value) for value in self._tree.values]

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether the row meets the condition."""
        try:
            return bool(self._value(self._tree, row))
        except (TypeError, ZeroDivisionError) as error:
            raise InputError(f"cannot evaluate {self.text!r} on {row.get('path')} ({error})") from error

    def _part(self, tree: ast.expr) -> "Expression":
        part = object.__new__(Expression)
        part.text, part._tree = ast.unparse(tree), tree
        return part

    def _check(self, node: ast.AST, columns: set[str]) -> None:
        match node:
            case ast.Name():
                if node.id not in columns:
                    raise InputError(f"no column {node.id!r} in the manifest; it has {', '.join(sorted(columns))}")
            case ast.Constant(value=bool() | int() | float() | str() | None):
                pass
            case ast.BoolOp() | ast.List() | ast.Tuple():
                pass
            case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
                pass
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                pass
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                pass
            case _:
                text = ast.unparse(node)
                raise InputError(
                    f"{text!r} in an expression is not allowed; use columns, numbers, comparisons, and, or, not"
                )
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._check(child, columns)

    def _value(self, node: ast.expr, row: Mapping[str, Any]) -> Any:
        match node:
            case ast.Name():
                return row.get(node.id)
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple():
                return [self._value(item, row) for item in node.elts]
            case ast.BoolOp(op=ast.And()):
                return all(self._value(value, row) for value in node.values)
            case ast.BoolOp():
                return any(self._value(value, row) for value in node.values)
            case ast.UnaryOp(op=ast.Not()):
                return not self._value(node.operand, row)
            case ast.UnaryOp():
                return _with_missing(operator.neg, self._value(node.operand, row))
            case ast.BinOp():
                return _with_missing(
                    _ARITHMETIC[type(node.op)], self._value(node.left, row), self._value(node.right, row)
                )
            case ast.Compare():
                return self._compare(node, row)
        raise AssertionError("checked before")

    def _compare(self, node: ast.Compare, row: Mapping[str, Any]) -> bool:
        left = self._value(node.left, row)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node, row)
            is_order = isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
            if (is_order and (left is None or right is None)) or not _COMPARISONS[type(op)](left, right):
                return False
            left = right
        return True


def _with_missing(function: Callable[..., Any], *values: Any) -> Any:
    return None if any(value is None for value in values) else function(*values)
