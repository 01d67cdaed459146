"""Is this machine ready for the book? `python -m medlib doctor` says, and names the
next step where it is not.

Reads requirements.txt and the cards of the stored chapters; torch is imported last, so
that the list of packages is complete even where torch is what is missing.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# CPU seconds of `step` on the machine behind the published outputs, in bf16 and in
# fp32.
REFERENCE = {"bf16": 0.047, "no": 0.070}
TORCH = ("torch", "torchvision")


def requirements(part: str = "run the chapters") -> dict[str, str]:
    """{package: the version range that the book needs}, from the part of
    requirements.txt under this heading.
    """
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    block = text.split(f"# {part}", 1)[1].split("\n\n")[0]
    return dict(re.findall(r"^([\w-]+)(\S+)", block, re.MULTILINE))


def unmet(needs: dict[str, str]) -> dict[str, str]:
    """{package: the version found, or "" where there is none} of those that are not as
    needed.
    """
    from packaging.specifiers import SpecifierSet

    found = {}
    for name, versions in needs.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        if not version or not SpecifierSet(versions).contains(
            version, prereleases=True
        ):
            found[name] = version
    return found


def install(*more: str) -> None:
    """On Colab: install what the chapters need and this environment lacks, and `more`.
    torch, torchvision and what else is there already in a version that will do stay as
    they are; jupyter is Colab's own affair.
    """
    needs = {k: v for k, v in requirements().items() if k not in (*TORCH, "jupyterlab")}
    lacking = [name + needs[name] for name in unmet(needs)] + [
        name for name in more if name in unmet({name: ""})
    ]
    if not lacking:
        return
    hold = [
        f"{name}=={metadata.version(name)}"
        for name in TORCH
        if name not in unmet({name: ""})
    ]
    print(f"Installing {', '.join(lacking)} …")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *lacking, *hold], check=True
    )


# ---------------------------------------------------------------- the report


def packages(part: str, advice: str) -> Iterator[tuple[bool, str, str]]:
    """(well, what, and the next step where it is not well) for each package of a part
    of requirements.txt.
    """
    needs = requirements(part)
    wrong = unmet(needs)
    for name, versions in needs.items():
        if name in wrong:
            seen = f"{wrong[name]} is too old" if wrong[name] else "is missing"
            yield False, f"{name} {seen}; the book needs {name}{versions}", advice
        else:
            yield True, f"{name} {metadata.version(name)}", ""


def machine() -> Iterator[tuple[bool, str, str]]:
    """The device, the precision and the profile that the chapters would take."""
    import torch

    from medlib import train

    threads = torch.get_num_threads()
    name = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"processor, {threads} thread(s)"
    )
    yield True, f"device: {train.device()} ({name})", ""
    if train.precision() == "bf16":
        yield True, "bf16: this hardware multiplies in it; forward passes use it", ""
    else:
        yield (
            True,
            "bf16: not here; forward passes run in fp32, which is slower and no less "
            "exact",
            "",
        )
    yield True, f"profile: {train.profile()} (MEDLIB_PROFILE=smoke|cpu|gpu chooses)", ""


def sets() -> Iterator[tuple[bool, str, str]]:
    """Whether each data set is at hand, without downloading: in the cache, in the
    mirror, or in a package.
    """
    from medlib.fetch import REGISTRY

    mirror = os.environ.get("MEDLIB_MIRROR", "")
    remote = mirror.startswith(("http://", "https://"))
    places = [ROOT / "data" / "cache"] + (
        [Path(mirror).expanduser()] if mirror and not remote else []
    )
    for name, card in REGISTRY.items():
        paths = [entry["path"] for entry in card.get("file", [])] + [
            card[key] for key in card if key == "path"
        ]
        lacking = [
            path
            for path in paths
            if not any((place / path).exists() for place in places)
        ]
        if not lacking:
            yield True, f"{name}: {card['title']}", ""
        elif "file" not in card:
            yield (
                False,
                f"{name}: {card['title']} is not here",
                (
                    f"get it from {card['page']} and put {', '.join(lacking)} into "
                    "data/cache/, "
                    "or set MEDLIB_MIRROR to a folder that holds it (data/README.md)"
                ),
            )
        elif os.environ.get("MEDLIB_OFFLINE"):
            yield (
                False,
                f"{name}: {card['title']} is not here",
                "unset MEDLIB_OFFLINE, and it is fetched when needed",
            )
        else:
            yield (
                True,
                f"{name}: {card['title']}: not here yet; fetched when a chapter needs "
                "it",
                "",
            )


def step() -> float:
    """CPU seconds of a training step of a small U-Net on one thread: the median of five
    after two.
    """
    import torch

    from medlib.device import precision
    from medlib.models import UNet

    torch.manual_seed(0)
    net = UNet(1, 4, width=16, padded=True)
    x, y = torch.randn(8, 1, 64, 64), torch.randint(4, (8, 64, 64))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(7):
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision() == "bf16"):
            logits = net(x)
        torch.nn.functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - started)
    torch.set_num_threads(threads)
    return sorted(seconds[2:])[2]


def forecast(seconds: float) -> list[tuple[str, int]]:
    """[(chapter, CPU minutes in the cpu profile)], where one `step` takes `seconds`
    here: each published run's time, scaled by the two machines' steps.
    """
    from medlib.device import precision

    found = []
    for path in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb")):
        stamp = json.loads(path.read_text(encoding="utf-8"))["metadata"]["medlib"]
        found.append(
            (
                path.stem,
                round(stamp["cpu_seconds"] / 60 * seconds / REFERENCE[precision()]),
            )
        )
    return found


def report() -> bool:
    """Print everything; True where nothing is missing."""
    good = sys.version_info >= (3, 11)
    checks = {
        "Python": [
            (
                good,
                f"Python {platform.python_version()}",
                "the book needs 3.11 or newer",
            )
        ],
        "Packages for the chapters": packages(
            "run the chapters", "pip install -r requirements.txt"
        ),
    }
    ready = _print(checks)
    if any(name in unmet({name: "" for name in TORCH}) for name in TORCH):
        print("\nWithout torch and torchvision nothing more can be measured.")
        return False
    ready &= _print({"This machine": machine(), "Data": sets()})
    build = {
        "Packages to build and check the book": packages(
            "build the book", "make test installs them"
        )
    }
    _print(build)  # a reader of the notebooks can do without
    print(
        "\nMinutes a chapter in the cpu profile, foreseen for one core of this "
        "processor"
    )
    for name, minutes in forecast(step()):
        print(f"  {name:28} {max(1, minutes):4}")
    return ready


def _print(sections: dict) -> bool:
    ready = True
    for title, checks in sections.items():
        print(f"\n{title}")
        for well, what, advice in checks:
            ready &= well
            print(
                f"  {'OK  ' if well else 'FAIL'} {what}"
                + (f"\n       → {advice}" if advice and not well else "")
            )
    return ready
