"""The review's claims: a chapter observes an effect, and the verdict follows from its
interval.

book/claims.toml holds each claim's prediction and the rule that the effect must obey,
written before the experiment. `observe` compares the interval with the rule, shows the
verdict, and leaves a record in the output's metadata, which is all that the ledger page
and the tests read.
"""

import math
import tomllib
from functools import cache

from medlib.notes import note
from medlib.paths import resource
from medlib.stats import Interval

SYMBOL = {"supported": "✔", "nuanced": "≈", "refuted": "✘", "not testable here": "○"}


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


def verdict(rule: str, low: float | None, high: float | None) -> str:
    """supported where the whole interval obeys `rule`, refuted where none of it does,
    else nuanced. None is an open end.

    Rules: "> x", "< x", "= x", "within x" (at most x from zero).
    """
    low = -math.inf if low is None else low
    high = math.inf if high is None else high
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
    return "supported" if obeyed else "refuted" if broken else "nuanced"


def combine(verdicts: list[str]) -> str:
    """The verdict of a claim seen under several conditions: theirs if they agree, else
    nuanced.
    """
    return verdicts[0] if len(set(verdicts)) == 1 else "nuanced"


def observe(
    id: str, effect: Interval | float, *, n: int | None = None, where: str
) -> None:
    """Record the effect of claim `id` and print the verdict.

    effect   as the claim's `predicts` defines it: measured, with its 95 % interval, or
             counted, a plain number
    n        how many seeds, cases or items it rests on; by default the interval's
    where    the data and the setting, in a few words
    """
    this = claim(id)
    if "rule" not in this:
        raise ValueError(
            f"{id} has no rule in book/claims.toml: it is marked as not testable "
            f"({this['reason']})"
        )
    if isinstance(effect, Interval):
        (mean, low, high), n = map(float, effect[:3]), effect.n if n is None else n
        shown = f"{mean:.4g} [{low:.3g}, {high:.3g}]"
    elif n is None:
        raise TypeError(f"{id}: expected n, the number of items counted")
    else:
        mean = low = high = float(effect)
        shown = f"{mean:.4g}"
    if not low <= mean <= high:
        raise ValueError(f"{id}: effect {mean} outside its interval [{low}, {high}]")
    found = verdict(this["rule"], low, high)
    record = {"id": id, "effect": mean, "low": _stored(low), "high": _stored(high)}
    _show(
        record | {"n": n, "where": where, "verdict": found},
        f"*{this['predicts']}* Measured ({where}, n = {n:,}): **{shown}**; the "
        f"rule is “{this['rule']}”.",
    )


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
    _show({"id": id, "verdict": "not testable here"}, this["reason"])


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
