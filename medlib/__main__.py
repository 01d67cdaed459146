"""`python -m medlib doctor`: is this machine ready?"""

import argparse
import io
import sys


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m medlib", description=__doc__)
    parser.add_argument(
        "command",
        choices=["doctor"],
        help="check packages, device and data; in a checkout, foresee the minutes",
    )
    parser.parse_args(arguments)
    from medlib import doctor

    return int(not doctor.report())


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):  # a pipe on Windows knows no arrow
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(main())
