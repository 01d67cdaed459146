import json
import re
import subprocess
import sys

import numpy as np
import pytest
from pybtex.database import parse_file

from medlib import claims
from medlib.notes import listening
from medlib.paths import CHECKOUT
from medlib.stats import Interval, interval


def test_all_113_claims_stand_in_order():
    assert list(claims.claims()) == [f"C{i:03}" for i in range(1, 114)]


@pytest.mark.parametrize("claim", claims.claims().values(), ids=lambda c: c["id"])
def test_a_claim_has_an_experiment_or_a_reason(claim):
    assert ("rule" in claim and "predicts" in claim) != ("reason" in claim)
    assert claim["quote"] and claim["literature"] in (
        "right",
        "imprecise",
        "wrong",
        "unsupported",
    )
    assert re.fullmatch(r"\d\d", claim["chapter"]) or "reason" in claim
    if "rule" in claim:
        claims.verdict(claim["rule"], 0, 0)


def test_sources_are_in_the_bibliography():
    known = parse_file(CHECKOUT / "book" / "references.bib").entries
    assert {key for c in claims.claims().values() for key in c["source"]} <= set(known)


@pytest.mark.parametrize(
    "rule, low, high, expected",
    [
        ("> 0", 0.1, 0.2, "supported"),
        ("> 0", -0.1, 0.2, "nuanced"),
        ("> 0", -0.2, 0, "refuted"),
        ("< 1", 0.1, 0.2, "supported"),
        ("< 1", 1, 2, "refuted"),
        ("= 0", 0, 0, "supported"),
        ("= 0", 10, 10, "refuted"),
        ("= 0", -1, 1, "nuanced"),
        ("within 0.1", -0.05, 0.05, "supported"),
        ("within 0.1", 0.05, 0.2, "nuanced"),
        ("within 0.1", 0.2, 0.3, "refuted"),
        ("within 0.1", -0.3, -0.2, "refuted"),
    ],
)
def test_verdict(rule, low, high, expected):
    assert claims.verdict(rule, low, high) == expected


def test_verdicts_that_disagree_are_nuanced():
    assert claims.combine(["supported", "refuted"]) == "nuanced"
    assert claims.combine(["refuted", "refuted"]) == "refuted"


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: claims.verdict("about 3", 0, 0), "rule"),
        (lambda: claims.claim("C999"), "C999"),
        (lambda: claims.observe("C080", 1, n=1, where=""), "not testable"),
        (lambda: claims.observe("C007", 1, where=""), "expected n"),
        (lambda: claims.untestable("C007"), "rule"),
        (
            lambda: claims.observe("C007", Interval(1, 2, 3, 5), where=""),
            "outside its interval",
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
    claims.observe("C007", Interval(0.2, 0.1, 0.3, 200), where="here")
    claims.observe("C007", Interval(0.2, 0.1, 0.3, 200), n=5, where="here")
    text, record = shown[0]
    assert record == {
        "id": "C007", "effect": 0.2, "low": 0.1, "high": 0.3, "n": 200,
        "where": "here", "verdict": "supported",
    }  # fmt: skip
    assert "(here, n = 200): **0.2 [0.1, 0.3]**" in text
    assert shown[1][1]["n"] == 5


def test_what_is_counted_has_no_interval(shown):
    claims.observe("C024", np.int64(-1), n=4, where="layers")
    text, record = shown[0]
    assert record["low"] == record["effect"] == record["high"] == -1
    assert "**-1**" in text and "[" not in text.split("Measured")[1]


def test_one_seed_leaves_open_ends_that_json_can_hold(shown):
    claims.observe("C007", interval([0.2]), where="one seed")
    text, record = shown[0]
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["low"], record["high"]) == (None, None)
    assert record["verdict"] == "nuanced" and "[-inf, inf]" in text
    assert claims.verdict("> 0", None, None) == "nuanced"


def test_what_a_page_prints_is_noted(shown):
    heard = []
    with listening(lambda event, facts: heard.append((event, facts["ids"]))):
        claims.box("C006", "C007")
        claims.observe("C007", 0.1, n=1, where="")
        claims.untestable("C080")
    claims.untestable("C080")  # nobody listens any more
    assert heard == [
        ("claims", ["C006", "C007"]),
        ("claims", ["C007"]),
        ("claims", ["C080"]),
    ]


def test_reading_the_claims_needs_no_torch():
    code = "import sys, medlib.claims; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
