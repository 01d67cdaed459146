import re

import pytest
from pybtex.database import parse_file

from medlib import claims


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
    known = parse_file(claims.ROOT / "book" / "references.bib").entries
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
        (lambda: claims.untestable("C007"), "rule"),
        (
            lambda: claims.observe("C007", 1, (2, 3), n=1, where=""),
            "outside its interval",
        ),
    ],
)
def test_misuse_is_refused(call, match):
    with pytest.raises((KeyError, ValueError), match=match):
        call()
