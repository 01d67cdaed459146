"""The stamp of a chapter: what its run used, written by the kernel that ran it.

The press executes `begin` in the kernel before the first cell and `finish` after the
last; neither leaves a trace in the notebook. In between medlib's notes are heard.
"""

import json
import os
import platform
import sys
from contextlib import ExitStack


class Recorder:
    """What a run loaded, trained and printed, from medlib's notes."""

    def __init__(self):
        self.data: dict[str, str] = {}  # name of a data set → where it came from
        self.claims: set[str] = set()  # ids of the claims that were printed
        self.untrue: list[str] = []  # sentences of the text that do not hold
        self.trained: list[tuple[int, int]] = []  # (parameters, seed) of each training
        self.kept_seconds = 0.0  # of the processor, for trainings out of the store

    def __call__(self, event: str, facts: dict) -> None:
        match event:
            case "loaded":
                self.data[facts["name"]] = facts["source"]
            case "claims":
                self.claims.update(facts["ids"])
            case "holds":
                if not facts["true"]:
                    self.untrue.append(facts["sentence"])
            case "trained":
                self.trained.append((facts["parameters"], facts["seed"]))
                if facts["kept"]:
                    self.kept_seconds += facts["cpu_seconds"]


_recorder = Recorder()  # of this kernel, which runs one chapter
_open = ExitStack()


def begin() -> None:
    """Listen from here on."""
    from medlib.notes import listening

    _open.enter_context(listening(_recorder))


def finish() -> None:
    """Print the kernel's part of the stamp, as JSON in the last line of its output."""
    _open.close()
    print(json.dumps(measured() | noted(_recorder)))


def measured() -> dict:
    """This process: profile, device, arithmetic, versions, time and memory."""
    import torch

    from medlib import device

    jemalloc = "jemalloc" in os.environ.get("LD_PRELOAD", "")
    return {
        "profile": device.profile(),
        "device": str(device.device()),
        "precision": device.precision(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "allocator": "jemalloc" if jemalloc else "default",
        "cpu_seconds": round(cpu_seconds()),
        "peak_mb": round(peak_memory() / 2**20),
    }


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = os.times()
    return sum(used[:4])


def peak_memory() -> int:
    """Of this process, in bytes."""
    try:
        import resource
    except ImportError:  # on Windows
        import psutil  # ipykernel brings it

        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # there in bytes


def noted(recorder: Recorder) -> dict:
    """What medlib told: data, claims, sentences that fail, and trainings."""
    found: dict = {"data": recorder.data, "claims": sorted(recorder.claims)}
    if recorder.untrue:
        found["untrue"] = recorder.untrue
    if recorder.trained:
        parameters, seeds = zip(*recorder.trained, strict=True)
        found["trained"] = {
            "trainings": len(recorder.trained),
            "parameters": [min(parameters), max(parameters)],
            "seeds": [min(seeds), max(seeds)],
        }
    if recorder.kept_seconds:
        found["kept_seconds"] = round(recorder.kept_seconds)
    return found


# ---------------------------------------------------------------- read from it


def whole_seconds(stamp: dict) -> int:
    """CPU-seconds that a reader needs, who has no training in a store: those of the
    run, and those that its trainings from the store took when they were made.
    """
    return stamp["cpu_seconds"] + stamp.get("kept_seconds", 0)
