"""``python -m fuzz TARGET [--seconds N]``: look for an input that breaks a target's invariant.

Uses atheris, which is guided by coverage, where it is installed; else mutations of the seeds. The input that
was found is printed as hex, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from random import Random

from fuzz import Target, find_target, target_names
from fuzz._mutate import mutate


def main() -> None:
    """Run one target, bounded in time."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=target_names())
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="repeat a run of the built-in loop")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is not None:
        _run_atheris(options.target, int(options.seconds))
    else:
        _run_mutations(find_target(options.target), options.seconds, Random(options.seed))


def _run_mutations(target: Target, seconds: float, random: Random) -> None:
    deadline = time.monotonic() + seconds
    corpus = list(target.seeds)
    count = 0
    while time.monotonic() < deadline:
        data = (
            target.seeds[count]
            if count < len(target.seeds)
            else mutate(random.choice(corpus), corpus, random)
        )
        try:
            target.one(data)
        except BaseException:
            print(f"{target.name}: broken by {data.hex()}", file=sys.stderr)
            raise
        count += 1
    print(f"{target.name}: {count} inputs, the invariant held: {target.invariant}")
    if target.report is not None:
        print(f"{target.name}: {target.report()}")


def _run_atheris(name: str, seconds: int) -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["enclave_payload", "enclavectl"]):
        target = find_target(name)
    for seed in target.seeds:
        target.one(seed)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}"], target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
