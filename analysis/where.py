"""Row filters from text, such as `objective == 'causal' and tokens > 1e7`: comparisons, arithmetic, and, or, not, in.

The text is parsed, never executed: only columns and literals can be named, so an expression can reach nothing else.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scaling.errors import TableError

if TYPE_CHECKING:
    import pandas as pd

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Mod: operator.mod,
}


def select_rows(frame: pd.DataFrame, expression: str) -> NDArray[np.bool_]:
    """Which rows satisfy `expression`, (n,) booleans.

    Raises:
        TableError: the text is no such expression, names a column that is not there, or compares unlike things.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TableError(f"where {expression!r}: not an expression ({error})") from None
    try:
        with np.errstate(all="ignore"):
            mask = _Evaluator(frame, expression).visit(tree.body)
    except TableError:
        raise
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise TableError(f"where {expression!r}: {error}") from None
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TableError(f"where {expression!r}: gives values, not true or false; compare it with something")
    return np.array(np.broadcast_to(mask, (len(frame),)))


class _Evaluator(ast.NodeVisitor):
    """Evaluates the few kinds of node that a row filter needs."""

    def __init__(self, frame: pd.DataFrame, expression: str) -> None:
        self.frame, self.expression = frame, expression

    def generic_visit(self, node: ast.AST) -> Any:
        what = type(node).__name__.lower()
        raise TableError(
            f"where {self.expression!r}: {what} is not allowed; use columns, literals, comparisons, and, or, not, in"
        )

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self.frame.columns:
            column = self.frame[node.id]
            return column.to_numpy(dtype=object) if column.dtype.kind not in "iufb" else column.to_numpy()
        near = difflib.get_close_matches(node.id, [str(c) for c in self.frame.columns], 1)
        hint = f" (did you mean {near[0]}?)" if near else f"; it has {', '.join(str(c) for c in self.frame.columns)}"
        raise TableError(f"where {self.expression!r}: the table has no column {node.id!r}{hint}")

    def visit_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, bool | str) or node.value is None:
            return node.value
        if isinstance(node.value, int | float):
            return np.float64(node.value)
        return self.generic_visit(node)

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> list[Any]:
        return [self.visit(e) for e in node.elts]

    visit_List = visit_Tuple = visit_Set = _sequence

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        values = [self._truth(v) for v in node.values]
        return (np.logical_and if isinstance(node.op, ast.And) else np.logical_or).reduce(np.broadcast_arrays(*values))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not | ast.Invert):
            return ~self._truth(node.operand)
        if isinstance(node.op, ast.USub):
            return -self.visit(node.operand)
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        if isinstance(node.op, ast.BitAnd):
            return self._truth(node.left) & self._truth(node.right)
        if isinstance(node.op, ast.BitOr):
            return self._truth(node.left) | self._truth(node.right)
        if type(node.op) not in _ARITHMETIC:
            return self.generic_visit(node)
        return _ARITHMETIC[type(node.op)](self.visit(node.left), self.visit(node.right))

    def visit_Compare(self, node: ast.Compare) -> Any:
        mask: Any = True
        left = self.visit(node.left)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.visit(comparator)
            if isinstance(op, ast.In | ast.NotIn):
                if not isinstance(right, list):
                    raise TableError(f"where {self.expression!r}: `in` needs a list such as ['a', 'b']")
                found: Any = np.zeros(np.shape(left), bool)
                for value in right:
                    found = found | np.asarray(left == value, dtype=bool)
                part = found if isinstance(op, ast.In) else ~found
            elif type(op) in _COMPARE:
                part = np.asarray(_COMPARE[type(op)](left, right), dtype=bool)
            else:
                self.generic_visit(op)
            mask = mask & part
            left = right
        return mask

    def _truth(self, node: ast.expr) -> NDArray[np.bool_]:
        value = np.asarray(self.visit(node))
        if value.dtype != bool:
            if value.dtype == object and all(isinstance(v, bool) for v in value.ravel()):
                return value.astype(bool)
            raise TableError(f"where {self.expression!r}: {ast.unparse(node)!r} is neither true nor false")
        return value
