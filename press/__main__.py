"""The book's press.

python -m press run             run the chapters that changed or are stale
python -m press run 02 17 -j 2  these, two side by side
python -m press text 02         take over changed prose without a run (--all)
python -m press colab           make the readers' notebooks in colab/ anew
python -m press verify 02       run it once more, store nothing, and name the cells
                                that came out otherwise
python -m press status          one line a chapter

python -m press check           lint, types, spelling, the tests of what changed
python -m press test            everything that must be green
python -m press nightly         what takes hours
python -m press mutants stats   the broken lines that this module's tests do not notice

python -m press book            render the pages, warnings as errors
python -m press first           copy the first cell (press/first.py) into all notebooks
python -m press address URL     lead everything to another repository on GitHub
python -m press release 1.2.0   set the version: package, notebooks, buttons, branch

python -m press predict 02      its minutes on a T4, from a dry run that trains nothing
python -m press quick 02        its CPU-seconds in the profile quick, from a run
python -m press front           the beating heart of the front page, from its images
python -m press forecast        both, of all chapters, as chapters/minutes.toml has them
python -m press pdf             bind the built book into one PDF
python -m press arrows          who imports whom
"""

import argparse
import sys
from pathlib import Path

from medlib.__main__ import print_what_it_can
from press import text
from press.text import ChapterError


def chosen(names: list[str]) -> list[Path]:
    """The chapters with these numbers or names, each once; all where none is named."""
    if not names:
        return text.sources()
    return list(dict.fromkeys(p for name in names for p in text.sources(name)))


def run(options) -> int:
    from press.run import side_by_side, state, store_prose
    from press.waiting import waiting

    to_run = []
    for source in chosen(options.chapter):
        kind, _ = state(source)
        if options.chapter and (options.again or source.stem in waiting()):
            to_run.append(source)
        elif kind == "prose":
            print(f"took over the text of {store_prose(source).stem}")
        elif kind not in ("fresh", "waiting"):
            to_run.append(source)
    failed = side_by_side(to_run, options.jobs) if to_run else {}
    for name, why in failed.items():
        print(f"\n{name}: {why}", file=sys.stderr)
    print(f"{len(to_run) - len(failed)} chapter(s) run, {len(failed)} failed")
    return int(bool(failed))


def take_text(options) -> int:
    from press.run import store_prose

    if not options.chapter and not options.all:
        raise ChapterError("expected the numbers of chapters, or --all")
    failed = 0
    for source in chosen(options.chapter):
        try:
            print(f"took over the text of {store_prose(source).stem}")
        except ChapterError as error:
            failed += 1
            print(error, file=sys.stderr)
    return int(failed > 0)


def readers(options) -> int:
    from press import colab

    for source in chosen(options.chapter):
        print(f"made {colab.write(source.stem, text.stored(source)).name}")
    return 0


def verify(options) -> int:
    from press.run import verify

    found = [line for source in chosen(options.chapter) for line in verify(source)]
    print("\n".join(found) or "the same text and tables")
    return int(bool(found))


def status(options) -> int:
    from press.run import state

    states = [(source.stem, *state(source)) for source in chosen([])]
    for name, kind, why in states:
        print(f"{name:24} {kind:10} {'; '.join(why)}")
    kinds = [kind for _, kind, _ in states]
    counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    print(f"{len(states)} chapters: {', '.join(counts)}")
    return 0


def predict(options) -> int:
    from press import rehearse

    for source in chosen(options.chapter):
        found = rehearse.predict(source)
        print(f"{source.stem:28} {found['minutes']:6.1f} min on a T4", flush=True)
        for cell in found.get("failed", []):
            print(f"    cell {cell}", flush=True)
    return 0


def quick(options) -> int:
    from press import rehearse

    for source in chosen(options.chapter):
        found = rehearse.measure(source)
        print(f"{source.stem:28} {found['cpu_seconds']:6} CPU-seconds", flush=True)
    return 0


def put_first_cell(options) -> int:
    from press import first

    for path in first.put():
        print(f"the first cell of {path.name}")
    return 0


def set_address(options) -> int:
    from press import first, release

    release.address(options.url)
    print(f"everything leads to {first.address()}; commit it")
    return 0


def set_version(options) -> int:
    from press import first, release

    release.release(options.version)
    print(f"version {first.version()}; the buttons open {first.branch()}")
    if first.branch() != "main":
        print(f"next: commit, git tag {first.branch()}, git push --tags")
    return 0


def book(options) -> int:
    from press import tiers

    return tiers.book()


def forecast(options) -> int:
    from press import minutes

    print(minutes.forecast(options.seconds))
    return 0


def front(options) -> int:
    from press.front import make

    print(make())
    return 0


def pdf(options) -> int:
    from press import pdf

    return pdf.main()


def arrows(options) -> int:
    from press.graph import Graph, arrows

    for name, others in arrows(Graph(text.ROOT, "medlib", "press")).items():
        print(f"{name:32} {', '.join(sorted(others))}")
    return 0


def tier(options) -> int:
    from press import tiers

    return tiers.main(options.command, options.base, options.only)


def mutants(options) -> int:
    from press import survivors

    return survivors.main(options.module, options.sample, options.jobs)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m press", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.set_defaults(base="HEAD", only="")
    commands = made.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, function, chapters: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(name)
        added.set_defaults(function=function)
        if chapters:
            added.add_argument("chapter", nargs=chapters, help="numbers or names")
        return added

    running = command("run", run, "*")
    running.add_argument("-j", "--jobs", type=int, default=1, help="side by side")
    running.add_argument("--again", action="store_true", help="even where it is fresh")
    command("text", take_text, "*").add_argument("--all", action="store_true")
    command("colab", readers, "*")
    command("verify", verify, "+")
    command("status", status)
    checking = command("check", tier)
    checking.add_argument("--base", default="HEAD", help="the commit to compare with")
    command("test", tier)
    at_night = command("nightly", tier)
    at_night.add_argument("--only", default="", help="the tests of this file: colab")
    breaking = command("mutants", mutants)
    breaking.add_argument("module", nargs="*", help="such as losses; all if none")
    breaking.add_argument("-j", "--jobs", type=int, default=1, help="side by side")
    breaking.add_argument(
        "--sample", type=int, default=60, help="mutants of each module (60)"
    )
    command("predict", predict, "*")
    command("quick", quick, "*")
    command("book", book)
    command("front", front)
    command("first", put_first_cell)
    command("address", set_address).add_argument("url")
    command("release", set_version).add_argument("version")
    foreseeing = command("forecast", forecast)
    foreseeing.add_argument(
        "--seconds", type=float, help="CPU-seconds of medlib.doctor.step() here"
    )
    command("pdf", pdf)
    command("arrows", arrows)
    return made


def main(arguments=None) -> int:
    options = parser().parse_args(arguments)
    try:
        return options.function(options)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    print_what_it_can()
    sys.exit(main())
