"""Mutations of source code: the places where a small fault can be made, and the resulting code.

A fault replaces a few characters: an operator or a comparison by a related one (`OPERATORS`), an
integer by the next, a float by its double, a name by its opposite (`OPPOSITES`), a condition by its
negation; or it removes a minus, a `not`, a transposition or a whole statement. Type annotations,
strings, error messages and assertions (including `strict` of `zip`) are left alone. So is anything
that every call would notice: no first assignment of a variable and no return value is removed.
"""

import ast
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

OPERATORS: dict[type[ast.AST], tuple[str, ...]] = {  # each with its replacements
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.MatMult: ("@", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
    ast.Lt: ("<", "<=", ">="),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
OPPOSITES = {
    "min": "max",
    "amin": "amax",
    "argmin": "argmax",
    "minimum": "maximum",
    "any": "all",
    "mean": "sum",
    "zeros": "ones",
    "zeros_like": "ones_like",
}
OPPOSITES |= {one: other for other, one in OPPOSITES.items()}


class Edit(NamedTuple):
    """Replacement text for a range of bytes."""

    start: int
    end: int
    new: str


class Mutant(NamedTuple):
    """A file with one fault; ``change`` gives the scope, the old code and the new code."""

    file: str
    line: int
    change: str
    source: str


def mutants(file: str, source: str) -> list[Mutant]:
    """Return all faults that one change can make in the source of a file."""
    text = source.encode()
    found = {}
    for edit, scope in Finder(text).found():
        changed = text[: edit.start] + edit.new.encode() + text[edit.end :]
        start = text.rfind(b"\n", 0, edit.start) + 1
        end = (text + b"\n").index(b"\n", edit.end)
        was, now = text[start:end], changed[start : end + len(changed) - len(text)]
        line = text.count(b"\n", 0, edit.start) + 1
        found[changed] = Mutant(
            file, line, f"{scope}: {joined(was)} → {joined(now)}", changed.decode()
        )
    return list(found.values())


def joined(lines: bytes) -> str:
    """Join lines of code into one."""
    return " ".join(line.strip() for line in lines.decode().splitlines())


class Finder:
    """Finder of the edits of a source, each with the name of its enclosing function or class."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.lines = [0]
        for line in text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def found(self) -> Iterator[tuple[Edit, str]]:
        """Yield all edits, in source order."""
        yield from self._below(ast.parse(self.text), "module", set())

    def _below(self, node: ast.AST, scope: str, bound: set[str]) -> Iterator[tuple[Edit, str]]:
        """Yield the edits of a node and its children; ``bound`` are variables assigned so far."""
        match node:
            case ast.FunctionDef(name) | ast.ClassDef(name):
                scope = name if scope == "module" else f"{scope}.{name}"
                bound = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
            case ast.Assert() | ast.Raise() | ast.JoinedStr() | ast.keyword("strict"):
                return
        for edit in self._edits(node):
            yield edit, scope
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                if may_go(child, bound):
                    yield Edit(*self._span(child), "pass"), scope
                yield from self._below(child, scope, bound)
                bound |= stored(child)

    def _edits(self, node: ast.AST) -> Iterator[Edit]:
        match node:
            case ast.BinOp(left, op, right):
                yield from self._operator(left, op, right)
            case ast.AugAssign(target, op, value):
                yield from self._operator(target, op, value)
            case ast.BoolOp(op, values):
                for left, right in pairwise(values):
                    yield from self._operator(left, op, right)
            case ast.Compare(left, ops, comparators):
                for comparison, (one, other) in zip(
                    ops, pairwise([left, *comparators]), strict=True
                ):
                    yield from self._operator(one, comparison, other)
            case ast.UnaryOp(ast.USub() | ast.Not() as op):
                start = self._span(node)[0]
                yield Edit(start, start + len("-" if isinstance(op, ast.USub) else "not "), "")
            case ast.Constant(bool(value)):
                yield Edit(*self._span(node), str(not value))
            case ast.Constant(int(value)):
                yield Edit(*self._span(node), str(value + 1))
            case ast.Constant(float(value)):
                yield Edit(*self._span(node), str(2 * value or 1.0))
            case ast.Attribute(_, "mT"):
                end = self._span(node)[1]
                yield Edit(end - len(".mT"), end, "")
            case ast.Call(ast.Attribute(_, name) | ast.Name("min" | "max" | "any" | "all" as name)):
                if name in OPPOSITES:
                    end = self._span(node.func)[1]
                    yield Edit(end - len(name), end, OPPOSITES[name])
            case ast.keyword("min" | "max" as name):
                start = self._span(node)[0]
                yield Edit(start, start + len(name), OPPOSITES[name])
            case ast.If(test) | ast.IfExp(test) | ast.While(test):
                yield from self._negation(test)
            case ast.comprehension(_, _, tests):
                for test in tests:
                    yield from self._negation(test)

    def _operator(self, left: ast.AST, op: ast.AST, right: ast.AST) -> Iterator[Edit]:
        token, *others = OPERATORS[type(op)]
        start = self.text.index(token.encode(), self._span(left)[1], self._span(right)[0])
        for other in others:
            yield Edit(start, start + len(token), other)

    def _negation(self, test: ast.AST) -> Iterator[Edit]:
        if not isinstance(test, ast.Compare | ast.UnaryOp):  # those are negated elsewhere
            start, end = self._span(test)
            yield Edit(start, end, f"not ({self.text[start:end].decode()})")

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.stmt | ast.expr | ast.keyword)
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self.lines[node.lineno - 1] + node.col_offset
        return start, self.lines[node.end_lineno - 1] + node.end_col_offset


def stored(node: ast.AST) -> set[str]:
    """Return the variables that are assigned."""
    names = (each for each in ast.walk(node) if isinstance(each, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def may_go(node: ast.AST, bound: set[str]) -> bool:
    """Return whether this is a statement that can be removed without breaking the code."""
    match node:
        case ast.Expr(ast.Constant()):
            return False
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Break() | ast.Continue():
            return True
        case ast.Assign():
            return stored(node) <= bound
    return False
