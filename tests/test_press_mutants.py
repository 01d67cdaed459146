"""Which places of a file are changed, and how."""

from collections import Counter

import pytest

from press.mutants import mutants


def changes(text):
    """{(operator, the changed lines, joined)} of a small file."""
    found = mutants("toy.py", text.encode())
    return {(m.operator, " ".join(" ".join(m.new).split())) for m in found}


@pytest.mark.parametrize(
    "code, operator, expected",
    [
        ("a < b", "comparison", {"a <= b", "a >= b"}),
        ("a == b != c", "comparison", {"a != b != c", "a == b == c"}),
        ("a not in b", "comparison", {"a in b"}),
        ("a is b", "comparison", {"a is not b"}),
        ("a * (b + c)", "arithmetic", {"a / (b + c)", "a * (b - c)"}),
        ("a ** b // c", "arithmetic", {"a * b // c", "a ** b * c"}),
        ("-a", "arithmetic", {"a"}),
        ("(a and b) or not c", "boolean",
         {"(a or b) or not c", "(a and b) and not c", "(a and b) or c"}),
        ("b if a else c", "boolean", {"b if not (a) else c"}),
        ("[a for a in b if a.c]", "boolean", {"[a for a in b if not (a.c)]"}),
        ("(1, 0.5, True, None, 'a')", "constant",
         {"(2, 0.5, True, None, 'a')", "(1, 1.5, True, None, 'a')",
          "(1, 0.5, False, None, 'a')"}),
        ("f(a, b, c=d)", "argument", {"f(a, c=d)", "f(b, a, c=d)", "f(a, b)"}),
        ("f(a.b, a.b)", "argument", {"f(a.b)"}),
        ("np.minimum(a, b)", "argument", {"np.minimum(a)"}),
        ("f(c=d, *a, **b)", "argument", {"f(*a, **b)"}),
        ("zip(a, b, strict=True)", "argument",
         {"zip(a, strict=True)", "zip(b, a, strict=True)"}),
    ],
)  # fmt: skip
def test_operators(code, operator, expected):
    found = changes(f"x = {code}")
    assert {new for kind, new in found if kind == operator} == {
        f"x = {new}" for new in expected
    }


def test_statements_are_dropped_and_what_defines_is_not():
    code = """
import os
def f(a: int = 1) -> int:
    '''Text.'''
    a += b
    a.sort()
    name = "text"
    if a:
        raise ValueError(f"{a + 1}" + "text")
    return a
"""
    found = [m for m in mutants("toy.py", code.encode()) if m.operator == "statement"]
    assert [m.old for m in found] == [
        ["    a += b"], ["    a.sort()"],
        ["""        raise ValueError(f"{a + 1}" + "text")"""], ["    return a"],
    ]  # fmt: skip
    assert all(m.new[0].strip() == "pass" for m in found)


@pytest.mark.parametrize(
    "code",
    [
        "'''Text.'''", "x = 'a' + 'b'", "x = f'{a + 1} {b < 2}'", "__all__ = ['a']",
        "x: Literal[1]", "def f(a: A[1] = None, *, b: B[2]) -> C[3]: ...",
        "if TYPE_CHECKING:\n    import a", "import a", "from a import b",
        "class A(B):\n    '''Text.'''", "@a\ndef f(): ...",
    ],
)  # fmt: skip
def test_strings_types_and_imports_are_left_alone(code):
    assert {new for kind, new in changes(code) if kind != "statement"} == set()


def test_what_a_warning_says_is_left_alone():
    assert changes("warn(a + 1, b)") == {("statement", "pass")}


def test_only_the_place_changes_and_its_line_is_named():
    code = "def f(ä):\n    return g(\n        'é', ä + 1,\n        c=2,\n    )\n"
    found = mutants("toy.py", code.encode())
    (plus,) = (m for m in found if m.operator == "arithmetic")
    assert plus.code.decode() == code.replace("+", "-")
    assert (plus.line, plus.lines, plus.scope) == (3, (2, 5), "f")
    assert str(plus) == (
        "toy.py:3  in f  (arithmetic)\n-         'é', ä + 1,\n+         'é', ä - 1,"
    )
    (keyword,) = (m for m in found if m.old == ["        c=2,"] and not m.new)
    assert keyword.operator == "argument"


def test_a_default_belongs_to_the_whole_function_and_a_condition_to_its_line():
    code = "def f(a=1):\n    while a < b:\n        g()\n"
    lines = {m.operator: m.lines for m in mutants("toy.py", code.encode())}
    assert lines == {"constant": (1, 3), "comparison": (2, 2), "statement": (3, 3)}


def test_a_place_does_not_depend_on_what_stands_elsewhere():
    code = "def f():\n    return a + b\n"
    before = {m.number for m in mutants("toy.py", code.encode())}
    moved = ("# text\nx = 1\n\n" + code.replace("a + b", "a  +  b")).encode()
    assert before <= {m.number for m in mutants("toy.py", moved)}


def test_places_that_read_alike_are_told_apart():
    code = b"def f():\n    a(1)\n    a(1)\n"
    found = Counter(m.number for m in mutants("toy.py", code))
    assert len(found) == 6 and set(found.values()) == {1}
