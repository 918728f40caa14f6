"""``python -m benchmarks [NAME...]``: run all, or the named ones, and print one table."""

from __future__ import annotations

import importlib
import sys

from benchmarks.common import Row, machine, print_table

_ALL = (
    *("requests", "models", "receipts", "sealed", "start", "verify", "nitro_list", "hostile", "gateway"),
    *("nginx_stream", "fleet", "nitro_launch"),
)


def main(names: list[str]) -> None:
    """Print the machine and the table."""
    print(machine(), flush=True)
    rows: list[Row] = []
    for name in names or _ALL:
        rows += importlib.import_module(f"benchmarks.{name}").main()
    print_table(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
