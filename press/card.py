"""The card at a chapter's end: what its run was. Made of the stamp, without a run."""

import tomllib

from medlib import paths
from press.stamp import whole_seconds


def registry() -> dict[str, dict]:
    """The entries of data/datasets.toml, by name."""
    return tomllib.loads(paths.resource("datasets.toml").read_text(encoding="utf-8"))


def card(stamp: dict) -> str:
    """What the stored run took and used, from its stamp. In Markdown."""
    known = registry()
    sets = "; ".join(
        f"{known[name]['title']} ({known[name]['licence']})"
        for name in sorted(stamp["data"])
        if name in known
    )
    took = max(1, round(whole_seconds(stamp) / 60))
    trained = ""
    if made := stamp.get("trained"):
        trained = (
            f" · {made['trainings']} training{'s' * (made['trainings'] > 1)} of "
            f"networks with {_span(made['parameters'])} parameters, "
            f"seed{'s' * (len(set(made['seeds'])) > 1)} {_span(made['seeds'])}"
        )
    precision = stamp["precision"] if stamp["precision"] != "no" else "fp32"
    profile = stamp["profile"].replace("cpu", "full")  # its name in older stamps
    text = (
        f"**This chapter's run.** About {took} "
        f"CPU-minute{'s' if took > 1 else ''} and "
        f"{stamp['peak_mb'] / 1024:.1f} GB of memory{trained} · data: "
        f"{sets or 'simulated or shipped with packages'} · "
        f"profile `{profile}` on {stamp['device']}, {stamp['threads']} "
        f"thread(s), forward pass in {precision}, torch {stamp['torch']} · run on "
        f"{stamp['date']}"
    )
    if commit := stamp.get("outputs_of"):
        text += (
            "\n\n**Waiting for a rerun.** The published outputs are of an older "
            f"version of this chapter, commit `{commit}` ({stamp['date']})."
        )
        if "acdc" in stamp["data"]:
            text += (
                " They were made from a copy of ACDC with one nominal spacing for all "
                "patients, so that mm and mL in them are not true."
            )
    return text


def _span(ends: list[int]) -> str:
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
