"""Systematic mutants of a bound: its module executed again with one place of one function changed."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["Mutant", "mutants"]

SCALES = (0.98, 1.02)
SWAPPED = {
    "s": ("kappa",),
    "kappa": ("s", "xi"),
    "xi": ("kappa",),
    "aligned": ("turned",),
    "turned": ("aligned",),
    "p_high": ("q_high",),
    "q_high": ("p_high",),
}
OPPOSITE = {
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "wide_max": "wide_min",
    "wide_min": "wide_max",
}
COMPARED = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}


@dataclass(frozen=True, eq=False)
class Mutant:
    """A bound with one place changed.

    Attributes:
        name: function, line and change.
        function: the module's entry point, with the change in what it calls.
    """

    name: str
    function: Callable[..., Any]


def mutants(
    module: ModuleType, targets: tuple[str, ...], entry: str, through: ModuleType | None = None
) -> Iterator[Mutant]:
    """Every mutant of the functions named, seen through one entry point of their module, or of one that imports it.

    Each numeric constant of the arithmetic times 0.98 and times 1.02; s, kappa and xi, p+ and q+ exchanged at each use;
    each sum, difference, product and quotient reduced to either operand; max and min exchanged; hypot reduced to either
    argument; each comparison turned round.
    """
    tree = ast.parse(inspect.getsource(module))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for target in targets:
        original = functions[target]
        count = sum(1 for _ in ast.walk(original))
        for index in range(count):
            for change, replacement in _changes(module, original, _at(original, index)):
                changed = copy.deepcopy(tree)
                function = next(n for n in changed.body if isinstance(n, ast.FunctionDef) and n.name == target)
                _replace(function, index, replacement)
                yield Mutant(
                    f"{target}: {change}, in {_statement(original, index)}", _execute(module, changed, through)[entry]
                )


def _at(root: ast.AST, index: int) -> ast.AST:
    for position, node in enumerate(ast.walk(root)):
        if position == index:
            return node
    raise IndexError(index)


def _outside(root: ast.FunctionDef, wanted: ast.AST) -> bool:
    """Whether the node is none of the arithmetic that NumPy and Python arguments reach.

    Subscripts, ranges, annotations, counts of layers, messages, and what only JAX arguments reach: that is held to the
    rest by tests of its own.
    """
    for node in ast.walk(root):
        outside: list[ast.AST] = []
        if isinstance(node, ast.Subscript):
            outside = [node.slice]
        elif isinstance(node, ast.Call) and _name(node.func) in ("range", "zeros", "ValueError", "is_jax"):
            outside = list(node.args)
        elif isinstance(node, ast.Compare) and "depth" in ast.unparse(node.left):
            outside = list(node.comparators)
        elif isinstance(node, ast.IfExp) and ast.unparse(node.test) == "xp is np":
            outside = [node.orelse]
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Call) and _name(node.test.func) == "is_jax":
            outside = list(node.body)
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            outside = [node.iter, *node.body]
        elif isinstance(node, ast.FunctionDef):
            outside = [node.args, *([node.returns] if node.returns else []), *node.body[:1]]
            outside = outside if ast.get_docstring(node) else outside[:-1]
        if any(wanted is inner for part in outside for inner in ast.walk(part)):
            return True
    return False


def _statement(root: ast.FunctionDef, index: int) -> str:
    """The innermost statement that holds the node, in one line."""
    wanted, best = _at(root, index), ""
    for node in ast.walk(root):
        if isinstance(node, ast.stmt) and any(inner is wanted for inner in ast.walk(node)):
            best = ast.unparse(node)
    return best.splitlines()[0]


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _changes(module: ModuleType, function: ast.FunctionDef, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if _outside(function, node):
        return
    text = ast.unparse(node) if isinstance(node, ast.expr) else ""
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and value != 0:
        for scale in SCALES:
            yield f"{value} -> {value * scale:g}", ast.Constant(value * scale)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in SWAPPED:
        known = [inner for inner in ast.walk(function) if isinstance(inner, ast.Name)]
        names = {inner.id for inner in known if isinstance(inner.ctx, ast.Store) and inner.lineno < node.lineno}
        for other in SWAPPED[node.id]:
            if other in names:
                yield f"{node.id} -> {other}", ast.Name(other, ast.Load())
    elif isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitOr | ast.Pow):
        yield f"{text} -> {ast.unparse(node.left)}", node.left
        if not isinstance(node.op, ast.Sub | ast.Div):
            yield f"{text} -> {ast.unparse(node.right)}", node.right
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        turned = ast.Compare(node.left, [COMPARED[type(node.ops[0])](), *node.ops[1:]], node.comparators)
        yield f"{text} -> {ast.unparse(turned)}", turned
    elif isinstance(node, ast.Call):
        name = _name(node.func)
        if name in ("hypot", "wide_hypot"):
            for argument in node.args:
                yield f"{text} -> {ast.unparse(argument)}", argument
        elif name in OPPOSITE and (hasattr(module, OPPOSITE[name]) or not hasattr(module, name)):
            called: ast.expr = ast.Name(OPPOSITE[name], ast.Load())
            if isinstance(node.func, ast.Attribute):
                called = ast.Attribute(node.func.value, OPPOSITE[name], ast.Load())
            yield f"{text} -> {OPPOSITE[name]}", ast.Call(called, node.args, node.keywords)


def _replace(root: ast.AST, index: int, replacement: ast.AST) -> None:
    """Put the replacement where the node of this index stands."""
    wanted = _at(root, index)
    for node in ast.walk(root):
        for field, value in ast.iter_fields(node):
            if value is wanted:
                setattr(node, field, replacement)
                return
            if isinstance(value, list) and any(item is wanted for item in value):
                value[next(i for i, item in enumerate(value) if item is wanted)] = replacement
                return


def _execute(module: ModuleType, tree: ast.Module, through: ModuleType | None) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": module.__name__, "__file__": module.__file__}
    exec(compile(ast.fix_missing_locations(tree), f"mutant of {module.__name__}", "exec"), namespace)
    if through is None:
        return namespace
    outer: dict[str, Any] = {"__name__": through.__name__, "__file__": through.__file__}
    exec(compile(inspect.getsource(through), f"beside a mutant of {module.__name__}", "exec"), outer)
    outer.update({name: namespace[name] for name in namespace["__all__"]})
    return outer
