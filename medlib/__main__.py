"""The book's own commands.

fetch NAME…      bring data sets ahead of a class; without a name: list them
doctor           is this machine ready? `--urls`: do the sets' addresses answer?
checksums NAME…  for maintainers: write down the SHA-256 of what upstream serves
"""

import argparse
import io
import sys

WHICH = {
    "--cine": "for hearts: the frames between ED and ES as well",
    "--whole": "for a set that is fetched in part, since it is large: all of it",
}


def main(arguments=None) -> int:
    """The exit code: 0 where all went well, 1 where something is missing or wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m medlib",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor",
        help="check packages, device and data; in a checkout, foresee the minutes",
    )
    doctor.add_argument(
        "--urls",
        action="store_true",
        help="for maintainers: ask every address for its first byte",
    )
    for name, what in (
        ("fetch", "bring data sets into the cache; without a name: list them"),
        ("checksums", "for maintainers: write down the SHA-256 of what is served"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        several = "*" if name == "fetch" else "+"
        command.add_argument("name", nargs=several, help="of data/datasets.toml")
        for option, meaning in WHICH.items():
            command.add_argument(option, action="store_true", help=meaning)
        command.add_argument(
            "--split",
            default="",
            choices=["official"],
            help="for hearts: the challenge's test patients too, apart from the others",
        )
        command.add_argument(
            "--size", type=int, help="for MedMNIST: images of 64, 128 or 224 pixels"
        )
    given = parser.parse_args(arguments)
    if given.command == "doctor":
        from medlib import doctor as doctoring

        return int(not (doctoring.addresses() if given.urls else doctoring.report()))
    from medlib import ahead

    wanted = {"cine": given.cine, "split": given.split, "whole": given.whole}
    if given.command == "checksums":
        return int(not ahead.write_checksums(given.name, given.size, **wanted))
    if not given.name:
        ahead.list_sets()
        return 0
    return int(not ahead.fetch_sets(given.name, given.size, **wanted))


def print_what_it_can() -> None:
    """A pipe on Windows knows no arrow: a sign that it lacks becomes a question mark,
    and no error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    print_what_it_can()
    sys.exit(main())
