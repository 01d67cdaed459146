"""The review's claims: a chapter observes an effect, and the verdict follows from it.

book/claims.toml holds each claim's prediction and the rule that the effect must obey,
written before the experiment, and of what kind the evidence is. `observe` compares the
effect with the rule, shows the verdict, and leaves a record in the output's metadata,
which is all that the ledger page and the tests read. `holds` keeps a typed sentence
true.
"""

import math
import tomllib
from collections.abc import Iterable
from functools import cache
from numbers import Real

import numpy as np

from medlib.notes import heard, note
from medlib.paths import resource
from medlib.stats import Interval

SYMBOL = {
    "supported": "✔",
    "refuted": "✘",
    "nuanced": "≈",
    "undecided": "?",
    "not testable here": "○",
}
# The kinds of evidence: the mark that each wears, and how a verdict begins.
MARK = {"measured": "±", "counted": "#", "read": "§", "by definition": "≡", "none": "–"}
FOUND = {
    "measured": "Measured",
    "counted": "Counted",
    "read": "Looked up",
    "by definition": "By definition",
}
QUANTIFIERS = ("at each", "on average", "somewhere")


@cache
def claims() -> dict[str, dict]:
    """The 113 claims of the review, by id."""
    listed = tomllib.loads(resource("claims.toml").read_text(encoding="utf-8"))["claim"]
    return {claim["id"]: claim for claim in listed}


def claim(id: str) -> dict:
    if id not in claims():
        raise KeyError(
            f"no claim {id!r} in book/claims.toml; the ids are C001 to "
            f"C{len(claims()):03}"
        )
    return claims()[id]


# ---------------------------------------------------------------- verdicts


def verdict(rule: str, low: float | None, high: float | None) -> str:
    """supported where the whole interval obeys `rule`, refuted where none of it does,
    else undecided. None is an open end.

    Rules: "> x", "< x", "= x", "within x" (at most x from zero).

    Raises ValueError for another rule, for NaN, and where low > high.
    """
    low = -math.inf if low is None else float(low)
    high = math.inf if high is None else float(high)
    if not low <= high:
        raise ValueError(f"interval [{low}, {high}]; expected numbers, low ≤ high")
    match rule.split():
        case [">", x]:
            obeyed, broken = low > float(x), high <= float(x)
        case ["<", x]:
            obeyed, broken = high < float(x), low >= float(x)
        case ["=", x]:
            obeyed, broken = low == high == float(x), high < float(x) or low > float(x)
        case ["within", x]:
            obeyed, broken = (
                -float(x) <= low and high <= float(x),
                high < -float(x) or low > float(x),
            )
        case _:
            raise ValueError(
                f"rule {rule!r}; expected '> x', '< x', '= x' or 'within x'"
            )
    return "supported" if obeyed else "refuted" if broken else "undecided"


def combine(verdicts: Iterable[str], quantifier: str = "on average") -> str:
    """The verdict of a claim from those under several conditions, in any order.

    - "at each": the claim is for all conditions. One refuted condition refutes it; it
      is supported where every one is. Supported here and undecided there leaves the
      doubt, so it is undecided.
    - "somewhere": the claim is for one condition at least. One supported condition
      supports it; it is refuted where every one is. Refuted here and undecided there:
      it may yet hold at the latter, so it is undecided.
    - "on average", also where no condition is named: those that are decided decide,
      and an undecided one, which contradicts nobody, leaves their answer as it is.
      Supported here and refuted there is nuanced; none decided is undecided. A claim
      that one condition among many should not carry says "at each".

    Raises ValueError where there is nothing to combine, for another quantifier, and for
    a word that is not supported, refuted or undecided.
    """
    seen = set(verdicts)
    if not seen or not seen <= {"supported", "refuted", "undecided"}:
        raise ValueError(
            f"verdicts {sorted(seen)}; expected one or more of supported, refuted, "
            "undecided"
        )
    if quantifier not in QUANTIFIERS:
        raise ValueError(
            f"quantifier {quantifier!r}; expected one of {', '.join(QUANTIFIERS)}"
        )
    decided = seen - {"undecided"}
    if len(seen) == 1:
        return seen.pop()
    if quantifier == "at each":
        return "refuted" if "refuted" in seen else "undecided"
    if quantifier == "somewhere":
        return "supported" if "supported" in seen else "undecided"
    return decided.pop() if len(decided) == 1 else "nuanced"


# ---------------------------------------------------------------- in a chapter


def observe(
    id: str, effect: Interval | float, *, n: int | None = None, where: str
) -> None:
    """Record the effect of claim `id` under one condition and print the verdict.

    effect   as the claim's `predicts` defines it: an Interval of 95 % where the claim
             is measured, a plain number where it is counted, read or by definition
    n        how many seeds, cases or items it rests on; by default the interval's
    where    the data and the setting, in a few words

    Raises TypeError where the effect does not fit the claim's kind or n is missing,
    ValueError for a claim without an experiment and for numbers that are none.
    """
    this = claim(id)
    if "rule" not in this:
        raise ValueError(
            f"{id} has no rule in book/claims.toml: it is marked as not testable "
            f"({this['reason']})"
        )
    mean, low, high, n = _numbers(this, effect, n)
    found = verdict(this["rule"], low, high)
    record = {"id": id, "kind": this["kind"]}
    rule = f"“{this['rule']}”"
    if "quantifier" in this:
        record["quantifier"] = this["quantifier"]
        rule += f", {this['quantifier']}"
    record |= {"effect": mean, "low": _stored(low), "high": _stored(high), "n": n}
    rests_on, shown = f"n = {n:,}", f"{mean:.4g}"
    if isinstance(effect, Interval):
        shown += f" [{low:.3g}, {high:.3g}]"
        if effect.over:
            record["over"] = rests_on = effect.over
    _show(
        record | {"where": where, "verdict": found},
        f"*{this['predicts']}* {MARK[this['kind']]} {FOUND[this['kind']]} ({where}, "
        f"{rests_on}): **{shown}**; the rule is {rule}.",
    )


def _numbers(
    this: dict, effect: Interval | float, n: int | None
) -> tuple[float, float, float, int]:
    """(mean, low, high, n) of an effect that fits the claim's kind."""
    id, kind = this["id"], this["kind"]
    if isinstance(effect, Interval) != (kind == "measured"):
        if kind == "measured":
            raise TypeError(
                f"{id} is measured: expected an Interval, over seeds (stats.interval) "
                "or over seeds and patients (stats.over_patients, stats.over_cases), "
                f"not {effect!r}"
            )
        raise TypeError(f"{id} is {kind}: expected a plain number, not an Interval")
    if isinstance(effect, Interval):
        mean, low, high = (float(end) for end in effect[:3])
        n = effect.n if n is None else n
    elif isinstance(effect, Real):
        mean = low = high = float(effect)
    else:
        raise TypeError(f"{id} is {kind}: expected a plain number, not {effect!r}")
    if n is None:
        raise TypeError(f"{id}: expected n, the number of items behind it")
    if not math.isfinite(mean):
        raise ValueError(f"{id}: effect {mean}; expected a finite number")
    if not low <= mean <= high:
        raise ValueError(f"{id}: effect {mean} outside its interval [{low}, {high}]")
    return mean, low, high, int(n)


def _stored(bound: float) -> float | None:
    """None for an open end, which one seed gives: JSON has no infinity."""
    return bound if math.isfinite(bound) else None


def untestable(id: str) -> None:
    """Say that no experiment here decides claim `id`, with the reason that
    book/claims.toml states.
    """
    this = claim(id)
    if "reason" not in this:
        raise ValueError(
            f"{id} has a rule in book/claims.toml ({this['rule']}): observe it"
        )
    record = {"id": id, "kind": this["kind"], "verdict": "not testable here"}
    _show(record, this["reason"])


def _show(record: dict, text: str) -> None:
    from IPython.display import Markdown, display

    this, found = claim(record["id"]), record["verdict"]
    note("claims", ids=[record["id"]])
    display(
        Markdown(
            f"{SYMBOL[found]} **{this['id']} · {found}** “{this['quote']}” (section "
            f"{this['section']})\n\n{text}"
        ),
        metadata={"medlib": {"claim": record}},
    )


def box(*ids: str) -> None:
    """Show the claims that a chapter tests, with what each predicts."""
    from IPython.display import Markdown, display

    note("claims", ids=list(ids))
    rows = "\n".join(
        f"- **{c['id']}** “{c['quote']}”. "
        f"*{c.get('predicts') or 'No experiment decides this: ' + c['reason']}*"
        for c in map(claim, ids)
    )
    display(Markdown(rows))


def holds(sentence: str, true: bool) -> None:
    """Hold a typed sentence to what the run found.

    sentence   what the text beside this cell says, in words
    true       a comparison of the run's own numbers, such as lead.low > 0.05

    While the press runs the chapter nothing is printed, and a chapter with a sentence
    that is not true is not stored. Elsewhere, where sizes and devices may be a reader's
    own, it prints how the sentence fares on this run, and stops nothing.

    Raises TypeError where `true` is no truth value: a NaN or an array is none.
    """
    if not isinstance(true, bool | np.bool_):
        raise TypeError(
            f"holds({sentence!r}): expected True or False, not {type(true).__name__}"
        )
    note("holds", sentence=sentence, true=bool(true))
    if not heard():
        print(f"on this run: {'true' if true else 'NOT true'}: {sentence}")
