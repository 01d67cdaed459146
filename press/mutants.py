"""Small faults to put into a file's code, one at a time: its tests should notice each.

A mutant changes one place: a comparison, an operator of arithmetic, a condition, a
number, an argument of a call, or a statement that is dropped. Strings, messages,
annotations and imports are left alone, and so are the `strict` of a zip, which computes
nothing, and the order of what a maximum or a minimum is taken of.
"""

import ast
import re
import warnings
from collections import Counter
from typing import NamedTuple

from press.text import digest

COMPARISONS = {
    ast.Lt: ("<", "<=", ">="), ast.LtE: ("<=", "<", ">"), ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"), ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "*"), ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
}  # fmt: skip
SIGNS = {ast.Not: "boolean", ast.Invert: "boolean", ast.USub: "arithmetic"}
DROPPED = (
    ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Raise,
    ast.Continue, ast.Break, ast.Assert, ast.Delete,
)  # fmt: skip


class Mutant(NamedTuple):
    file: str
    scope: str  # the function or class around it
    operator: str
    lines: tuple[int, int]  # of the whole statement
    old: list[str]  # the lines that change
    new: list[str]
    code: bytes  # the whole file's
    line: int
    which: int = 1  # among those that read alike

    @property
    def place(self) -> tuple[str, str, str, str, int]:
        """What stays the same where lines above it are added or broken otherwise."""
        old, new = (" ".join(" ".join(part).split()) for part in (self.old, self.new))
        return self.file, self.scope, old, new, self.which

    @property
    def number(self) -> str:
        return digest(repr(self.place))

    def __str__(self) -> str:
        nth = f", place {self.which}" if self.which > 1 else ""
        lines = [f"- {s}" for s in self.old] + [f"+ {s}" for s in self.new]
        scope = self.scope or "the module"
        head = f"{self.file}:{self.line}  in {scope}{nth}  ({self.operator})"
        return "\n".join([head, *lines])


class _Places(ast.NodeVisitor):
    """Every place of one file, with what stands there instead."""

    def __init__(self, file: str, code: bytes):
        self.file, self.code = file, code
        self.rows = [0]  # where each line begins
        for row in code.splitlines(keepends=True):
            self.rows.append(self.rows[-1] + len(row))
        self.scope: list[str] = []
        self.lines = (1, 1)
        self.found: list[Mutant] = []
        self.visit(ast.parse(code))

    def span(self, node) -> tuple[int, int]:
        start = self.rows[node.lineno - 1] + node.col_offset
        return start, self.rows[node.end_lineno - 1] + node.end_col_offset

    def text(self, node) -> str:
        return self.code[slice(*self.span(node))].decode()

    def add(self, operator: str, start: int, end: int, new: str) -> None:
        code = self.code[:start] + new.encode() + self.code[end:]
        if code == self.code:
            return  # two equal arguments swapped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about `1 is 1`
            try:
                compile(code, self.file, "exec")
            except SyntaxError:
                return
        before = self.code[:start].rpartition(b"\n")[2]
        after = self.code[end:].partition(b"\n")[0]
        old, changed = (
            [
                row
                for row in (before + part + after).decode().splitlines()
                if row.strip()
            ]
            for part in (self.code[start:end], new.encode())
        )
        line = self.code.count(b"\n", 0, start) + 1
        scope = ".".join(self.scope)
        self.found.append(
            Mutant(self.file, scope, operator, self.lines, old, changed, code, line)
        )

    def between(self, operator: str, left, right, old: str, *others: str) -> None:
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.code[start:end].decode()
        for new in others:
            self.add(operator, start, end, gap.replace(old, new, 1))

    def without(self, node) -> None:
        """A call without this argument and its comma."""
        start, end = self.span(node)
        if comma := re.match(rb"\s*,[ ]*", self.code[end:]):
            end += comma.end()
        else:
            start = len(self.code[:start].rstrip().removesuffix(b","))
        self.add("argument", start, end, "")

    def visit(self, node):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
            return
        before = self.lines, list(self.scope)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.scope.append(node.name)
        if isinstance(node, ast.stmt):
            last = node.end_lineno or node.lineno
            body = getattr(node, "body", None)
            if body and not isinstance(node, ast.FunctionDef):
                last = max(node.lineno, body[0].lineno - 1)
            self.lines = (node.lineno, last)
        if isinstance(node, DROPPED) and not _says(node):
            self.add("statement", *self.span(node), "pass")
        for test in _conditions(node):
            self.add("boolean", *self.span(test), f"not ({self.text(test)})")
        super().visit(node)
        self.lines, self.scope = before

    def visit_Raise(self, node):
        """Its message is nobody's business."""

    def visit_arg(self, node):
        """An annotation."""

    def visit_FunctionDef(self, node):
        for part in [*node.decorator_list, node.args, *node.body]:
            self.visit(part)

    def visit_AnnAssign(self, node):
        if node.value:
            self.visit(node.value)

    def visit_If(self, node):
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Compare(self, node):
        operands = [node.left, *node.comparators]
        for left, kind, right in zip(operands, node.ops, operands[1:], strict=False):
            self.between("comparison", left, right, *COMPARISONS[type(kind)])
        self.generic_visit(node)

    def visit_BinOp(self, node):
        said = any(_is_text(side) for side in (node.left, node.right))
        if type(node.op) in ARITHMETIC and not said:
            old, new = ARITHMETIC[type(node.op)]
            self.between("arithmetic", node.left, node.right, old, new)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        if type(node.op) in ARITHMETIC and not _is_text(node.value):
            old, new = ARITHMETIC[type(node.op)]
            self.between("arithmetic", node.target, node.value, old, new)
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between("boolean", left, right, *words)
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if operator := SIGNS.get(type(node.op)):
            self.add(operator, *self.span(node), self.text(node.operand))
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.add("constant", *self.span(node), repr(not node.value))
        elif isinstance(node.value, int | float):
            self.add("constant", *self.span(node), repr(node.value + 1))

    def visit_Call(self, node):
        name = ast.unparse(node.func)
        if name.endswith(("warn", "print")):
            return
        if name == "zip":
            node.keywords = []
        for keyword in node.keywords:
            if keyword.arg:
                self.without(keyword)
        given = [a for a in node.args if not isinstance(a, ast.Starred)]
        if given == node.args and given and not isinstance(given[0], ast.GeneratorExp):
            self.without(given[-1])
            if len(given) > 1 and not name.endswith(
                ("max", "min", "maximum", "minimum")
            ):
                (start, middle), (far, end) = map(self.span, given[:2])
                gap = self.code[middle:far].decode()
                swapped = self.text(given[1]) + gap + self.text(given[0])
                self.add("argument", start, end, swapped)
        self.generic_visit(node)


def _is_text(node) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _says(node) -> bool:
    """A docstring, a text that is given a name, or a type without a value."""
    value = getattr(node, "value", None)
    names = [getattr(target, "id", "") for target in getattr(node, "targets", [])]
    bare = isinstance(node, ast.AnnAssign) and value is None
    named = isinstance(node, ast.Assign | ast.AugAssign) and _is_text(value)
    alone = isinstance(node, ast.Expr) and isinstance(
        value, ast.Constant | ast.JoinedStr
    )
    return bare or named or alone or "__all__" in names


def _conditions(node) -> list[ast.expr]:
    """The conditions that hold no operator of their own to be turned round."""
    tests = getattr(node, "ifs", [])
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        tests = [node.test]
    others = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Constant)
    found = [test for test in tests if not isinstance(test, others)]
    return [test for test in found if "TYPE_CHECKING" not in ast.unparse(test)]


def mutants(file: str, code: bytes) -> list[Mutant]:
    """All mutants of a file's code."""
    seen: Counter = Counter()
    found = []
    for mutant in _Places(file, code).found:
        seen[mutant.place] += 1
        found.append(mutant._replace(which=seen[mutant.place]))
    return found
