"""What does `import medlib` cost beside `import torch`? CPU-seconds of a fresh Python
each, in turn.
"""

import json
import resource
import subprocess
import sys

GOAL = "at most 1.1 times torch's own"
REPEATS = 9
STATEMENTS = {
    "torch": "import torch",
    "medlib": "import medlib",
    "medlib.fit": "from medlib import fit, load",
    "torchvision": "import torchvision",
    "monai": "import monai",
}


def seconds(statement: str) -> float:
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", statement],
        check=True,
        capture_output=True,
    )
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before


def measure() -> dict:
    t = {name: [] for name in STATEMENTS}
    for _ in range(REPEATS):
        for name, statement in STATEMENTS.items():
            t[name].append(seconds(statement))
    show = (
        "from medlib import fit, load; import sys; "
        "print([m for m in ('torchvision', 'monai', 'scipy') if m in sys.modules])"
    )
    early = subprocess.run(
        [sys.executable, "-c", show], check=True, capture_output=True, text=True
    ).stdout.strip()
    rows = [
        [statement, sorted(t[name])[REPEATS // 2]]
        for name, statement in STATEMENTS.items()
    ]
    ratios = {
        f"{name} / torch": [a / b for a, b in zip(t[name], t["torch"], strict=True)]
        for name in STATEMENTS
        if name != "torch"
    }
    return {
        "headers": ["statement", "CPU-seconds"],
        "rows": rows,
        "ratios": ratios,
        "means": {},
        "note": "Of torchvision, MONAI and scipy, `from medlib import fit, load` "
        f"brings in: {early.strip('[]') or 'none'}.",
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
