"""``python -m benchmarks [NAME...]``: run all, or the named ones, and print one table."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.common import Row, machine, print_table

_ALL = (
    *("requests", "models", "receipts", "sealed", "start", "verify", "nitro_list", "hostile", "gateway"),
    *("nginx_stream", "fleet", "nitro_launch"),
)
# By name alone: they take a browser, or ten minutes.
_NAMED = ("page", "results")


def main(names: list[str]) -> None:
    """Print the machine and the table."""
    print(machine(), flush=True)
    rows: list[Row] = []
    for name in names or _ALL:
        rows += importlib.import_module(f"benchmarks.{name}").main()
    print_table(rows)


def parse_names(arguments: list[str]) -> list[str]:
    """Read the command line; it ends the process if that is wrong, or asks for help."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time enclavectl beside what its limits name, and print one table.",
        epilog=f"Without a name: {', '.join(_ALL)}. By name alone: {', '.join(_NAMED)}.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure")
    names: list[str] = parser.parse_args(arguments).names
    for name in names:
        if name not in (*_ALL, *_NAMED):
            parser.error(f"no benchmark has the name {name!r}; --help lists them")
    return names


if __name__ == "__main__":
    main(parse_names(sys.argv[1:]))
