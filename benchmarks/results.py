"""``python -m benchmarks results``: a folder of 10,000 pictures into a file, killed with 9 in the middle.

The base is the bare thread pool of ``benchmarks.pool``, before, between and after. BENCH_PICTURES
is another count. Of photographs it is a twentieth.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import PROJECT, Row, Subject, subjects
from benchmarks.requests import pool
from tests.cli.command import COMMAND

_COUNT = int(os.environ.get("BENCH_PICTURES", "10000"))
_CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
_SAMPLE_S = 0.2


def main() -> list[Row]:
    """Measure the rate against the pool, and the growth of the command's memory."""
    with subjects() as (small, photograph):
        samples = [PROJECT / "samples" / f"{_CODES[number % 7]}.png" for number in range(_COUNT)]
        rate, growth = _measure(small, samples)
        return [rate, growth, _measure(photograph, [photograph.path] * max(_COUNT // 20, 1))[0]]


def _measure(subject: Subject, paths: Sequence[Path]) -> tuple[Row, Row]:
    count = len(paths)
    # The same pictures on both sides: some of the samples take longer than others.
    with tempfile.TemporaryDirectory() as name, pool(*paths[: len(_CODES)], count=subject.rounds) as run_base:
        base = Path(name)
        folder = base / "pictures"
        folder.mkdir()
        for number, path in enumerate(paths):
            (folder / f"{number:05}{path.suffix}").symlink_to(path)
        environ = {**os.environ, "HOME": name, "ENCLAVECTL_STATE_DIR": f"{name}/state"}
        command = _Command(base, environ, count)
        subprocess.run([COMMAND, "run", "--name", "bench"], env=environ, check=True, capture_output=True)
        try:
            base_s = [run_base()]
            first_s = command.run(until=count // 2)
            base_s.append(run_base())
            second_s = command.run(until=None)
            base_s.append(run_base())
        finally:
            subprocess.run([COMMAND, "terminate", "bench"], env=environ, check=True, capture_output=True)
        command.check()
    ours = count / (first_s + second_s)
    bare = len(base_s) * subject.rounds / sum(base_s)
    return (
        Row(
            what=f"{count:,} with --results, {subject.name}, killed once, against a pool of 2 bare pipelines",
            ours=f"{ours:.1f}/s", base=f"{bare:.1f}/s", ratio=ours / bare, limit=0.9, at_least=True,
        ),
        Row(
            what=f"MiB that the second command grows from its 500th picture to its last of {count // 2:,}",
            ours=f"{command.last_mib:.1f} MiB", base=f"{command.early_mib:.1f} MiB",
            ratio=command.last_mib - command.early_mib, limit=4.0,
        ),
    )  # fmt: skip


class _Command:
    """``diagnose --results`` with its memory over time."""

    def __init__(self, base: Path, environ: dict[str, str], count: int) -> None:
        self._count = count
        self._out = base / "out.jsonl"
        self._argv = [str(COMMAND), "diagnose", str(base / "pictures"), "--results", str(self._out)]
        self._environ = environ
        self.early_mib = self.last_mib = 0.0

    def run(self, until: int | None) -> float:
        """Run it, to its end or until it is killed; return the seconds."""
        started, before = time.perf_counter(), self._lines()
        with subprocess.Popen(self._argv, env=self._environ, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                done = self._lines()
                if until is not None and done >= until:
                    process.kill()
                    break
                mib = _memory_mib(process.pid)
                if mib and done - before < 500:
                    self.early_mib = mib
                self.last_mib = mib or self.last_mib
                time.sleep(_SAMPLE_S)
        return time.perf_counter() - started

    def check(self) -> None:
        """Require each picture once.

        Raises:
            RuntimeError: one is lost or there twice.
        """
        names = [json.loads(line)["image"] for line in self._out.read_text().splitlines()]
        if len(names) != self._count or len(set(names)) != self._count:
            raise RuntimeError(f"expected {self._count} pictures once, found {len(names)} lines")

    def _lines(self) -> int:
        """Estimate them by the size, which costs the command no time; lines differ by a few bytes."""
        if not self._out.exists():
            return 0
        with self._out.open("rb") as file:
            one = len(file.readline())
        return self._out.stat().st_size // max(one, 1)


def _memory_mib(pid: int) -> float | None:
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return None if found is None else int(found[1]) / 1024
