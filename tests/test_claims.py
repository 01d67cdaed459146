import ast
import itertools
import json
import math
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from pybtex.database import parse_file

from medlib import claims
from medlib.notes import listening
from medlib.paths import CHECKOUT
from medlib.stats import Interval, interval
from press.text import sources


def test_all_113_claims_stand_in_order():
    assert list(claims.claims()) == [f"C{i:03}" for i in range(1, 114)]


@pytest.mark.parametrize("claim", claims.claims().values(), ids=lambda c: c["id"])
def test_a_claim_has_a_kind_and_an_experiment_or_a_reason(claim):
    assert claim["quote"] and claim["literature"] in (
        "right",
        "imprecise",
        "wrong",
        "unsupported",
    )
    assert ("rule" in claim) == ("predicts" in claim) != ("reason" in claim)
    assert (claim["kind"] == "none") == ("reason" in claim)
    assert claim["kind"] in claims.MARK
    assert claim.get("quantifier", "on average") in claims.QUANTIFIERS
    if "reason" in claim:
        assert claim["chapter"] == "" or re.fullmatch(r"\d\d", claim["chapter"])
        assert "quantifier" not in claim
    else:
        assert re.fullmatch(r"\d\d", claim["chapter"])
        claims.verdict(claim["rule"], 0, 0)


def test_what_is_measured_can_be_supported():
    """No interval with a width obeys "= x"."""
    measured = [c for c in claims.claims().values() if c["kind"] == "measured"]
    assert measured and not [c["id"] for c in measured if c["rule"].startswith("=")]


def test_sources_are_in_the_bibliography():
    known = parse_file(CHECKOUT / "book" / "references.bib").entries
    assert {key for c in claims.claims().values() for key in c["source"]} <= set(known)


@pytest.mark.parametrize(
    "rule, low, high, expected",
    [
        ("> 0", 0.1, 0.2, "supported"),
        ("> 0", -0.1, 0.2, "undecided"),
        ("> 0", -0.2, 0, "refuted"),
        ("> 0", None, None, "undecided"),
        ("> 0", 0.1, None, "supported"),
        ("< 1", 0.1, 0.2, "supported"),
        ("< 1", 1, 2, "refuted"),
        ("= 0", 0, 0, "supported"),
        ("= 0", 10, 10, "refuted"),
        ("= 0", -1, 1, "undecided"),
        ("within 0.1", -0.05, 0.05, "supported"),
        ("within 0.1", 0.05, 0.2, "undecided"),
        ("within 0.1", 0.2, 0.3, "refuted"),
        ("within 0.1", -0.3, -0.2, "refuted"),
    ],
)
def test_verdict(rule, low, high, expected):
    assert claims.verdict(rule, low, high) == expected


S, R, U = "supported", "refuted", "undecided"


@pytest.mark.parametrize(
    "verdicts, at_each, somewhere, on_average",
    [
        ([S], S, S, S),
        ([R], R, R, R),
        ([U], U, U, U),
        ([S, S], S, S, S),
        ([R, R], R, R, R),
        ([U, U], U, U, U),
        ([S, R], R, S, "nuanced"),
        ([S, U], U, S, S),
        ([R, U], R, U, R),
        ([S, R, U], R, S, "nuanced"),
    ],
)
def test_what_each_quantifier_makes_of_several_conditions(
    verdicts, at_each, somewhere, on_average
):
    for order in itertools.permutations([*verdicts, *verdicts]):  # and so of duplicates
        assert claims.combine(order, "at each") == at_each
        assert claims.combine(order, "somewhere") == somewhere
        assert claims.combine(iter(order), "on average") == on_average
        assert claims.combine(list(order)) == on_average


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: claims.verdict("about 3", 0, 0), "rule"),
        (lambda: claims.verdict("> 0", math.nan, 1), "expected numbers"),
        (lambda: claims.verdict("> 0", 2, 1), "low ≤ high"),
        (lambda: claims.combine([]), "one or more"),
        (lambda: claims.combine([S, "nuanced"]), "nuanced"),
        (lambda: claims.combine([S, S], "mostly"), "mostly"),
        (lambda: claims.combine([S], ""), "quantifier"),
        (lambda: claims.claim("C999"), "C999"),
        (lambda: claims.observe("C080", 1, n=1, where=""), "not testable"),
        (lambda: claims.untestable("C007"), "rule"),
        # what is measured needs an interval of sound numbers
        (lambda: claims.observe("C007", 1, n=5, where=""), "C007 is measured"),
        (lambda: claims.observe("C007", (1, 0, 2, 5), where=""), "stats.interval"),
        (lambda: claims.observe("C007", np.float64(1), n=5, where=""), "Interval"),
        (
            lambda: claims.observe("C007", Interval(1, 2, 3, 5), where=""),
            "outside its interval",
        ),
        (
            lambda: claims.observe("C007", Interval(math.nan, 0, 1, 5), where=""),
            "finite",
        ),
        (
            lambda: claims.observe("C007", Interval(1, math.nan, 2, 5), where=""),
            "outside",
        ),
        # what is counted, read or by definition is one number
        (lambda: claims.observe("C024", 1, where=""), "expected n"),
        (lambda: claims.observe("C024", math.nan, n=1, where=""), "finite"),
        (lambda: claims.observe("C024", math.inf, n=1, where=""), "finite"),
        (lambda: claims.observe("C024", "1", n=1, where=""), "plain number"),
        (lambda: claims.observe("C024", np.ones(2), n=2, where=""), "plain number"),
        (
            lambda: claims.observe("C095", Interval(1, 1, 1, 1), where=""),
            "C095 is read",
        ),
    ],
)
def test_misuse_is_refused(call, match):
    with pytest.raises((KeyError, TypeError, ValueError), match=match):
        call()


@pytest.fixture
def shown(monkeypatch):
    """(text, record) of each claim that was shown."""
    found = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda text, metadata=None: found.append(
            (text.data, metadata and metadata["medlib"]["claim"])
        ),
    )
    return found


def test_an_interval_is_recorded_with_its_verdict(shown):
    claims.observe("C023", Interval(0.2, 0.1, 0.3, 200), where="here")
    claims.observe("C023", Interval(0.2, 0.1, 0.3, 200), n=5, where="here")
    text, record = shown[0]
    assert record == {
        "id": "C023", "kind": "measured", "effect": 0.2, "low": 0.1, "high": 0.3,
        "n": 200, "where": "here", "verdict": "supported",
    }  # fmt: skip
    assert "± Measured (here, n = 200): **0.2 [0.1, 0.3]**" in text
    assert shown[1][1]["n"] == 5


def test_what_an_interval_is_over_and_the_quantifier_are_told(shown):
    over = Interval(0.2, -0.1, 0.3, 16, over="5 seeds and 16 patients")
    claims.observe("C008", over, where="here")
    text, record = shown[0]
    assert "(here, 5 seeds and 16 patients): **0.2" in text
    assert "the rule is “> 0”, at each." in text and "? **C008 · undecided**" in text
    assert (record["over"], record["quantifier"]) == (over.over, "at each")


@pytest.mark.parametrize(
    "id, words",
    [("C024", "# Counted"), ("C095", "§ Looked up"), ("C068", "≡ By definition")],
)
def test_what_is_not_measured_says_so_and_has_no_interval(shown, id, words):
    claims.observe(id, np.int64(-1), n=4, where="layers")
    text, record = shown[0]
    assert record["low"] == record["effect"] == record["high"] == -1
    assert record["kind"] == claims.claim(id)["kind"]
    assert f"{words} (layers, n = 4): **-1**; the rule" in text


def test_one_seed_decides_nothing_and_json_can_hold_it(shown):
    claims.observe("C007", interval([0.2]), where="one seed")
    text, record = shown[0]
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["low"], record["high"]) == (None, None)
    assert record["verdict"] == "undecided" and "[-inf, inf]" in text


def test_a_claim_without_an_experiment_says_why(shown):
    claims.untestable("C080")
    text, record = shown[0]
    assert record == {"id": "C080", "kind": "none", "verdict": "not testable here"}
    assert "○ **C080 · not testable here**" in text and "health statistics" in text


def test_what_a_page_prints_is_noted(shown):
    heard = []
    with listening(lambda event, facts: heard.append((event, facts["ids"]))):
        claims.box("C006", "C007")
        claims.observe("C007", interval([0.1]), where="")
        claims.untestable("C080")
    claims.untestable("C080")  # nobody listens any more
    assert heard == [
        ("claims", ["C006", "C007"]),
        ("claims", ["C007"]),
        ("claims", ["C080"]),
    ]


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize("true", [True, False, np.bool_(True), np.float64(2) > 1])
def test_a_sentence_prints_how_it_fares_and_nothing_where_the_press_listens(
    capsys, true
):
    claims.holds("skips help", true)
    said = capsys.readouterr().out
    assert said.startswith("on this run: ") and said.endswith(": skips help\n")
    assert ("NOT true" in said) != bool(true)
    heard = []
    with listening(lambda event, facts: heard.append((event, facts))):
        claims.holds("skips help", true)
    assert capsys.readouterr().out == ""
    assert heard == [("holds", {"sentence": "skips help", "true": bool(true)})]


@pytest.mark.parametrize("value", [math.nan, 1, 0.0, None, "yes", np.array([True]), []])
def test_only_a_truth_value_holds(value):
    with pytest.raises(TypeError, match=r"skips help.*expected True or False"):
        claims.holds("skips help", value)


# ---------------------------------------------------------------- in the chapters


def calls(source):
    """(name, ids, node) of each call of `observe`, `untestable` and `box`."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("claims"), attr=name)):
                yield name, node


OBSERVED = [
    (source.stem, node)
    for source in sources()
    for name, node in calls(source)
    if name == "observe"
]
UNTESTED = [
    (source.stem, node.args[0].value)
    for source in sources()
    for name, node in calls(source)
    if name == "untestable"
]


@pytest.mark.parametrize(
    "chapter, node", OBSERVED, ids=lambda x: getattr(x, "lineno", x)
)
def test_a_chapter_observes_its_own_claims_and_as_their_kind_asks(chapter, node):
    claim = claims.claim(node.args[0].value)
    assert claim["chapter"] == chapter[:2] and claim["kind"] != "none"
    named = {keyword.arg for keyword in node.keywords}
    effect = node.args[1]
    if claim["kind"] == "measured":
        computed = effect.func if isinstance(effect, ast.Call) else effect
        assert isinstance(computed, ast.Name | ast.Attribute | ast.Subscript), (
            f"{claim['id']} is measured, expected an interval"
        )
        assert ast.unparse(computed) not in ("float", "int", "len", "max", "min", "sum")
    else:
        assert "n" in named, f"{claim['id']} is {claim['kind']}, expected n"


def test_every_claim_with_a_rule_is_observed_and_no_other():
    observed = {node.args[0].value for _, node in OBSERVED}
    every = claims.claims().values()
    assert observed == {c["id"] for c in every if "rule" in c}
    assert {(chapter[:2], id) for chapter, id in UNTESTED} == {
        (c["chapter"], c["id"]) for c in every if "reason" in c and c["chapter"]
    }


def test_a_claim_seen_under_several_conditions_says_its_quantifier():
    """In one loop, or in more than one place."""
    often = Counter(node.args[0].value for _, node in OBSERVED)
    for source in sources():
        for loop in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(loop, ast.For):
                often.update(
                    node.args[0].value
                    for _, node in OBSERVED
                    if any(ast.dump(n) == ast.dump(node) for n in ast.walk(loop))
                )
    several = [id for id, times in often.items() if times > 1]
    assert several
    assert [id for id in several if "quantifier" not in claims.claim(id)] == []


def test_reading_the_claims_needs_no_torch():
    code = "import sys, medlib.claims; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
