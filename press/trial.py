"""A module's tests in processes of their own, one for each mutant, forked from one that
has torch and the like loaded.

The tests that run through the changed line come first, the quick ones at the front,
and the first failure ends it. Tests that start processes are left out: those processes
would read the unchanged file.
"""

import contextlib
import importlib.machinery
import importlib.util
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from press.mutants import Mutant
from press.text import ChapterError

try:
    import resource
except ImportError:
    raise ChapterError(
        "mutants are tried in forked processes, which Windows does not have: "
        "run this in WSL"
    ) from None

MEMORY = 6 << 30  # bytes a child may ask for
PYTEST = [
    "-x",
    "-m",
    "not nightly",
    "-p",
    "no:cacheprovider",
    "--assert=plain",
    "--tb=short",
]


class _Mutated(importlib.machinery.SourceFileLoader):
    """Finds and loads one module, from other code than its file's."""

    def __init__(self, root: Path, mutant: Mutant):
        name = mutant.file.removesuffix(".py").removesuffix("/__init__")
        super().__init__(name.replace("/", "."), str(root / mutant.file))
        self.code = mutant.code

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)
        return None

    def get_code(self, fullname):
        return compile(self.code, self.path, "exec", dont_inherit=True)


class _Recorder:
    """Notes which lines each test runs through, how long it takes, and whether it
    starts processes.
    """

    def __init__(self, root: Path, files: list[Path]):
        self.files = {str(path): str(path.relative_to(root)) for path in files}
        self.lines: dict[str, set] = defaultdict(set)  # of "": outside of all tests
        self.seconds: dict[str, float] = {}
        self.starters: set[str] = set()
        self.test = ""

    def trace(self, frame, event, argument):
        if file := self.files.get(frame.f_code.co_filename):
            self.lines[self.test].add((file, frame.f_lineno))
            return self.trace
        return None

    def audit(self, event, arguments):
        if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"):
            self.starters.add(self.test)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        started, self.test = time.perf_counter(), item.nodeid
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - started
        self.test = ""
        return result


class _Chosen:
    """Runs the tests by their rank; those without one are new, and run first."""

    def __init__(self, ranks: dict[str, int], left_out: set[str]):
        self.ranks, self.left_out = ranks, left_out

    def pytest_collection_modifyitems(self, items):
        kept = [item for item in items if item.nodeid not in self.left_out]
        items[:] = sorted(kept, key=lambda item: self.ranks.get(item.nodeid, -1))


class Trial:
    """The tests of some files of a package below `root`, in children of this process;
    they work in `folder`.
    """

    def __init__(self, root: Path, files: list[Path], tests: list[Path], folder: Path):
        self.root, self.files, self.tests, self.folder = root, files, tests, folder
        beside = {path.stem for path in (root / "tests").glob("*.py")}
        self.own = beside | {files[0].relative_to(root).parts[0]}
        self.said = folder / "said.txt"
        self.limit = 3600  # CPU-seconds of a child
        self.running: dict[int, Mutant] = {}

    def _is_own(self, name: str) -> bool:
        """Whether a module is to be imported by each child anew."""
        return name.split(".")[0] in self.own

    def _pytest(self, plugin) -> int:
        own = self.folder / str(os.getpid())
        sys.path.insert(0, str(self.root))
        os.chdir(self.folder)
        options = [*PYTEST, f"--rootdir={self.root}", f"--basetemp={own}"]
        return int(pytest.main([*options, *map(str, self.tests)], [plugin]))

    def fork(self, work: Callable[[], int]) -> int:
        """A child's number. It ends with what `work` returns; what it says goes into a
        file.
        """
        sys.stdout.flush()
        if child := os.fork():
            return child
        status = 99
        try:
            said = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(said, stream)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (self.limit, 2 * self.limit))
            signal.alarm(4 * self.limit)  # for what waits without computing
            for name in [name for name in sys.modules if self._is_own(name)]:
                del sys.modules[name]
            status = work()
        finally:
            os._exit(status)

    def record(self) -> float:
        """Run all tests unchanged; the CPU-seconds. ChapterError where one fails."""
        before = os.times()
        path = self.folder / "record"

        def work() -> int:
            recorder = _Recorder(self.root, self.files)
            sys.addaudithook(recorder.audit)
            threading.settrace(recorder.trace)
            sys.settrace(recorder.trace)
            status = self._pytest(recorder)
            sys.settrace(None)
            loaded = [name for name in sys.modules if not self._is_own(name)]
            seen = recorder.lines, recorder.seconds, recorder.starters, loaded
            path.write_bytes(pickle.dumps(seen))
            return status

        self._expect_success(self.fork(work))
        self.lines, self.seconds, starters, loaded = pickle.loads(path.read_bytes())
        self.left_out = starters - {""}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in loaded:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        unchanged = self.fork(lambda: self._pytest(self._chosen(set(self.seconds))))
        self.limit = 10 + 5 * round(self._expect_success(unchanged))
        return sum(os.times()[:4]) - sum(before[:4])

    def _expect_success(self, child: int) -> float:
        _, status, usage = os.wait4(child, 0)
        if status:
            said = self.said.read_text("utf-8", "replace")[-2000:]
            raise ChapterError(
                f"{said}\n{' '.join(path.name for path in self.tests)} fail without a "
                "mutant; expected that all pass"
            )
        return usage.ru_utime + usage.ru_stime

    def _chosen(self, reached: set[str]) -> _Chosen:
        first = sorted(self.seconds, key=lambda t: (t not in reached, self.seconds[t]))
        return _Chosen({test: rank for rank, test in enumerate(first)}, self.left_out)

    def start(self, mutant: Mutant) -> bool:
        """False where no test runs through the mutant's lines."""
        lines = range(mutant.lines[0], mutant.lines[1] + 1)
        places = {(mutant.file, line) for line in lines}
        reached = {test for test, ran in self.lines.items() if ran & places}
        if not reached - self.left_out:
            return False

        def work() -> int:
            sys.meta_path.insert(0, _Mutated(self.root, mutant))
            return self._pytest(self._chosen(reached))

        self.running[self.fork(work)] = mutant
        return True

    def wait(self) -> tuple[Mutant, str, float]:
        """The next mutant that is done, its outcome and its CPU-seconds."""
        child, status, usage = os.wait3(0)
        mutant = self.running.pop(child)
        shutil.rmtree(self.folder / str(child), ignore_errors=True)
        outcome = "killed" if status else "survived"
        if os.WIFSIGNALED(status):
            outcome = f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return mutant, outcome, usage.ru_utime + usage.ru_stime

    def stop(self) -> None:
        """End the children that still run."""
        for child in self.running:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
