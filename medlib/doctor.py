"""Is this machine ready? `python -m medlib doctor` says, and names the next step where
it is not.

torch is imported last, so that the list of packages is complete even where torch is
what is missing.
"""

import os
import platform
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from medlib import paths
from medlib.extras import command

TORCH = ("torch", "torchvision")
Check = tuple[bool, str, str]  # well, what, and the next step where it is not well


def requirements(extra: str = "") -> dict[str, str]:
    """{package: the versions that will do} of all that medlib depends on, or of what
    `extra` ("chapters", "build", "dev") adds to it: from pyproject.toml in a checkout,
    else from the installed package.
    """
    from packaging.requirements import Requirement

    if paths.CHECKOUT:
        text = (paths.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        if extra:
            lines = project["optional-dependencies"][extra]
        else:
            lines = project["dependencies"]
        listed = [Requirement(line) for line in lines]
    else:
        listed = [
            need
            for need in map(Requirement, metadata.requires("medlib") or [])
            if (need.marker.evaluate({"extra": extra}) if need.marker else not extra)
        ]
    return {need.name: str(need.specifier) for need in listed}


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
    """Where the book was fetched, as on Colab: install what the chapters need and this
    environment lacks, and `more`. torch, numpy and what else is there already in a
    version that will do stay as they are; jupyter is the host's own affair.
    RuntimeError where pip fails.
    """
    needs = {**requirements(), **requirements("chapters")}
    for name in (*TORCH, "jupyterlab"):
        needs.pop(name, None)
    wrong, absent = unmet(needs), unmet(dict.fromkeys((*TORCH, *more), ""))
    lacking = [name + needs[name] for name in wrong]
    lacking += [name for name in more if name in absent]
    if not lacking:
        return
    good = [name for name in (*TORCH, *needs) if name not in wrong | absent]
    hold = [f"{name}=={metadata.version(name)}" for name in good]
    print(f"Installing {', '.join(lacking)} …")
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if subprocess.run([*pip, *lacking, *hold], check=False).returncode:
        raise RuntimeError(
            f"pip, whose words stand above, could not install {', '.join(lacking)}"
        )


# ---------------------------------------------------------------- the report


def packages(extra: str = "") -> Iterator[Check]:
    """One check for each package that medlib, or its `extra`, needs."""
    needs = requirements(extra)
    wrong = unmet(needs)
    for name, versions in needs.items():
        if name in wrong:
            seen = f"{wrong[name]} is here" if wrong[name] else "is missing"
            yield (
                False,
                f"{name} {seen}; expected: {name}{versions}",
                command(extra),
            )
        else:
            yield True, f"{name} {metadata.version(name)}", ""


def machine() -> Iterator[Check]:
    """The device, the precision and the profile that a training would take."""
    import torch

    from medlib.device import device, precision, profile

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        name = f"{torch.get_num_threads()} thread(s) of the processor"
    yield True, f"device: {device()} ({name})", ""
    if precision() == "bf16":
        line = "bf16: this hardware multiplies in it; forward passes use it"
    else:
        line = "bf16: not here; forward passes run in fp32, slower and no less exact"
    yield True, line, ""
    yield True, f"profile: {profile()} (MEDLIB_PROFILE=smoke|quick|full chooses)", ""


def _registry() -> dict[str, dict]:
    return tomllib.loads(paths.resource("datasets.toml").read_text(encoding="utf-8"))


def sets() -> Iterator[Check]:
    """Whether each data set is at hand, without downloading: in the cache, in the
    mirror, or in a package.
    """
    folders = [p for p in (paths.cache(), paths.mirror()) if isinstance(p, Path)]
    for name, card in _registry().items():
        files = [e["path"] for e in card.get("file", []) if "size" not in e]
        files += [card["path"]] if "path" in card else []
        lacking = [
            path
            for path in files
            if not any((folder / path).exists() for folder in folders)
        ]
        title, advice = f"{name}: {card['title']}", ""
        if lacking and "instead" in card:
            title += ": optional, and not here"
        elif lacking and not {"file", "way", "part"} & card.keys():
            advice = (
                f"get it from {card['page']} and put {', '.join(lacking)} into "
                f"{paths.cache()}, or set MEDLIB_MIRROR to a folder that holds it"
            )
        elif lacking and os.environ.get("MEDLIB_OFFLINE"):
            advice = "unset MEDLIB_OFFLINE, and it is fetched when it is needed"
        elif lacking:
            title += ": not here yet; fetched when it is needed"
        yield not advice, title + (" is not here" if advice else ""), advice


def addresses() -> bool:
    """For maintainers: ask every address of the registry for its first byte, as the
    book asks. Prints a table; True where all answer with something like the file.
    """
    from medlib import fetch, upstream

    well = True
    with upstream.session() as session:
        for name, url in fetch.addresses():
            answer = upstream.knock(session, url)
            good = answer.startswith("HTTP 20")
            well &= good
            print(f"{'OK  ' if good else 'FAIL'} {name:<16} {answer:<34} {url}")
    return well


def step(precision: str) -> float:
    """CPU-seconds of a training step of a small U-Net on one thread, in "bf16" or "no"
    (fp32): the median of five after two.
    """
    import torch

    from medlib import cost
    from medlib.models import UNet

    torch.manual_seed(0)
    before = os.environ.get("MEDLIB_PRECISION", "")
    threads, seconds = torch.get_num_threads(), []
    os.environ["MEDLIB_PRECISION"] = precision
    torch.set_num_threads(1)
    try:
        action = cost.training_step(UNet(1, 4, width=16, padded=True), (8, 1, 64, 64))
        for _ in range(7):
            started = time.process_time()
            action()
            seconds.append(time.process_time() - started)
    finally:
        torch.set_num_threads(threads)
        os.environ["MEDLIB_PRECISION"] = before
    return sorted(seconds[2:])[2]


def speed() -> tuple[float, str]:
    """(seconds of a step as a training here would take it, what was measured)."""
    from medlib import device

    took = {precision: step(precision) for precision in ("bf16", "no")}
    ours = device.precision() if device.precision() in took else "no"
    said = (
        f"A training step of a small U-Net takes {1000 * took['bf16']:.0f} ms of the "
        f"processor in bf16 and {1000 * took['no']:.0f} ms in fp32; chapters here take "
        f"{'bf16' if ours == 'bf16' else 'fp32'}."
    )
    return took[ours], said


def forecast(seconds: float | None = None) -> str:
    """What the press foresees for the checkout's chapters, on a processor that needs
    `seconds` for one `step`: its lines, or why there are none.
    """
    here = ["--seconds", f"{seconds:.4g}"] if seconds else []
    done = subprocess.run(
        [sys.executable, "-m", "press", "forecast", *here],
        cwd=paths.CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"No forecast: {done.stderr.strip()}"
    whose = "of this processor" if seconds else "as published"
    title = (
        "Minutes of each chapter: foreseen for a T4 in the profile full; and minutes "
        f"{whose}, in quick and in full"
    )
    return title + "".join(f"\n  {line}" for line in done.stdout.splitlines())


def report() -> bool:
    """Print everything; True where nothing is missing."""
    if not find_spec("packaging"):
        print("The packages that medlib depends on are not installed: see README.md")
        return False
    fresh = sys.version_info >= (3, 11)
    python = f"Python {platform.python_version()}"
    book = paths.CHECKOUT is not None  # else nobody here runs its chapters
    ready = _print("Python", [(fresh, python, "expected: Python 3.11 or newer")])
    ready &= _print("Packages that medlib needs", packages())
    ready &= _print("Packages that the chapters add", packages("chapters")) or not book
    if book:  # a reader of the notebooks can do without
        _print("Packages that build the pages", packages("build"))
    if "torch" in unmet({"torch": ""}):
        print("\nWithout torch nothing more can be measured.")
        return False
    from medlib.device import device

    ready &= _print("This machine", machine())
    ready &= _print(f"Data, in {paths.cache()}", sets()) or not book
    if book and device().type == "cpu":
        seconds, said = speed()
        print(f"\n{said}\n\n{forecast(seconds)}")
    elif book:
        print(f"\n{forecast()}")
    return ready


def _print(title: str, checks: Iterable[Check]) -> bool:
    ready = True
    print(f"\n{title}")
    for well, what, advice in checks:
        ready &= well
        print(f"  {'OK  ' if well else 'FAIL'} {what}")
        if not well:
            print(f"       → {advice}")
    return ready
