"""Draw mutants over all rooms and report which of them the tests do not notice.

``python -m tools.mutants --count 40 --seed 1`` copies the checkout to a temporary folder, changes one
place of one function at a time there, and runs the tests of that file's room. A mutant that survives is
a rule that no test holds, or a change that makes no difference: a person has to look. The checkout
itself is never changed.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The longest room takes about five minutes on a busy machine; a mutant that hangs is noticed, too.
_TIMEOUT_S = 600
_COMPARISONS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
# Tests that hold a room beside those in the folder of its name.
_ALSO = {
    "enclave_payload": ["tests/payload", "tests/protocol", "tests/client"],
    "cli": ["tests/cli", "tests/e2e"],
    "nitro": ["tests/backends", "tests/nitro"],
    "deploy": ["tests/deploy"],
    "targets": ["tests/targets", "tests/e2e/test_attestation.py"],
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed place: bytes ``start`` to ``end`` of ``path`` become ``text``."""

    path: Path
    line: int
    start: int
    end: int
    text: str
    was: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.was!r} -> {self.text!r}"


def mutants_of(path: Path, source: bytes) -> Iterator[Mutant]:
    """Every mutant of a file that this tool knows: inside functions, not in docstrings or annotations."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def at(row: int, column: int) -> int:
        return starts[row - 1] + column

    def make(node: ast.expr | ast.stmt, text: str) -> Mutant:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
        return Mutant(path, node.lineno, start, end, text, source[start:end].decode())

    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            for statement in function.body:
                for node in _walk(statement):
                    text = _changed(node)
                    if text is not None:
                        assert isinstance(node, ast.expr | ast.stmt)
                        yield make(node, text)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but not into f-strings: before Python 3.12 their parts have no places."""
    yield node
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)


def _changed(node: ast.AST) -> str | None:  # noqa: PLR0911 - one line for each kind of change
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return f"(({ast.unparse(left)}) {_COMPARISONS[type(op)]} ({ast.unparse(right)}))"
        case ast.BoolOp(op=op, values=values):
            word = " or " if isinstance(op, ast.And) else " and "
            return "(" + word.join(f"({ast.unparse(value)})" for value in values) + ")"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return f"({ast.unparse(operand)})"
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            return f"(({ast.unparse(left)}) {'-' if isinstance(op, ast.Add) else '+'} ({ast.unparse(right)}))"
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return str(value + 1)
        case ast.Raise() | ast.Expr(value=ast.Call()):
            return "pass"
    return None


def tests_of(path: Path) -> list[str]:
    """The test folders that hold ``path``, most specific first."""
    parts = path.parts
    room = "enclave_payload" if parts[0] == "enclave_payload" else parts[1].removesuffix(".py")
    own = f"tests/{room}"
    names = [own] if (ROOT / own).is_dir() else []
    for part in (room, *parts[2:-1]):
        names += [name for name in _ALSO.get(part, []) if (ROOT / name).exists()]
    leaf = f"tests/test_{room}.py"
    names += [leaf] if (ROOT / leaf).exists() else []
    return list(dict.fromkeys(names)) or ["tests/client", "tests/backends", "tests/host"]


def survives(mutant: Mutant, copy: Path) -> bool:
    """Run the room's tests on the mutant in ``copy``; True if they pass all the same."""
    file = copy / mutant.path
    original = file.read_bytes()
    file.write_bytes(original[: mutant.start] + mutant.text.encode() + original[mutant.end :])
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests_of(mutant.path)]
    try:
        done = subprocess.run(argv, cwd=copy, capture_output=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    finally:
        file.write_bytes(original)
    return done.returncode == 0


def main() -> int:
    """Draw, run, report; 1 if a mutant survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0, help="draw so many first without a run: done before")
    parser.add_argument("--room", help="only files whose path contains this")
    options = parser.parse_args()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = [Path(name) for name in listed.splitlines()]
    files = [
        path
        for path in tracked
        if path.suffix == ".py"
        and path.parts[0] in {"enclavectl", "enclave_payload"}
        and (options.room or "") in str(path)
    ]
    drawn = random.Random(options.seed)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="enclavectl-mutants-") as name:
        copy = Path(name) / "checkout"
        for path in tracked:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, copy / path)
        for number in range(options.count):
            # A file first, then a place in it, so that long files do not take all the draws.
            choices: list[Mutant] = []
            while not choices:
                path = drawn.choice(files)
                choices = list(mutants_of(path, (ROOT / path).read_bytes()))
            mutant = drawn.choice(choices)
            if number < options.skip:
                continue
            is_alive = survives(mutant, copy)
            survivors += is_alive
            print(f"{number + 1:3} {'SURVIVED' if is_alive else 'killed  '} {mutant}", flush=True)
    run = max(options.count - options.skip, 0)
    print(f"{run} drawn, {run - survivors} killed, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
