"""The rules of DESIGN that no other tool checks, read from the sources."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("enclavectl", "enclave_payload")
SOURCES = {
    str(path.relative_to(ROOT)): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
EVERY_FILE = pytest.mark.parametrize("name", SOURCES)

PAYLOAD_MAY_IMPORT = {"cryptography", "numpy", "PIL", "tflite_runtime", "ai_edge_litert"}
TALKS_OR_EXITS = {
    "print", "input", "exit", "quit", "SystemExit", "sys.exit", "os._exit", "os.abort", "sys.stdin",
    "sys.stdout", "sys.stderr", "typer.echo", "typer.secho", "typer.Exit", "click.echo",
}  # fmt: skip
# Outside the CLI, two lines may: the payload's console, and the end of a child whose supervisor is gone.
MAY_TALK_OR_EXIT = {
    ("enclave_payload/__main__.py", "sys.stderr"),
    ("enclavectl/backends/local/sandbox.py", "SystemExit"),
}
STARTS_PROCESSES = {
    "subprocess": {"run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput"},
    "os": {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"}
    | {
        form + suffix
        for form in ("exec", "spawn")
        for suffix in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
    },
    "pty": {"fork", "spawn"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
}
MAX_LINES = 400


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(SOURCES[name].read_text(), name)


def module_of(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_of(name): name for name in SOURCES}


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement names; ``from a import b`` names ``a.b`` if that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        assert node.module is not None
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            yield submodule if submodule in MODULES else node.module


def imported_anywhere(name: str) -> set[str]:
    return {module for node in ast.walk(tree(name)) for module in imported(node)}


def imported_at_start(body: list[ast.stmt]) -> Iterator[str]:
    """What importing the module imports: neither functions' bodies nor ``if TYPE_CHECKING``."""
    for node in body:
        yield from imported(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield from imported_at_start([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from imported_at_start(
                [*node.body, *(s for h in node.handlers for s in h.body), *node.orelse]
            )


def dotted(node: ast.AST) -> str:
    """``a.b`` for the expression ``a.b``; nothing for what is not a name."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_both_packages_are_here() -> None:
    assert {"enclavectl.errors", "enclave_payload.server", "enclavectl.cli.main"} <= MODULES.keys()


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("enclave_payload/")])
def test_the_payload_imports_its_allow_list_only(name: str) -> None:
    tops = {module.partition(".")[0] for module in imported_anywhere(name)}
    assert tops - sys.stdlib_module_names - PAYLOAD_MAY_IMPORT <= {"enclave_payload"}


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("enclave_payload/")])
def test_the_payload_takes_nothing_from_its_caller(name: str) -> None:
    """No options and no environment: what is measured is all that decides."""
    taken = {"sys.argv", "sys.orig_argv", "os.environ", "os.environb", "os.getenv", "os.getenvb"}
    assert not taken & {dotted(node) for node in ast.walk(tree(name))}
    froms = (node for node in ast.walk(tree(name)) if isinstance(node, ast.ImportFrom))
    assert not taken & {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    assert not {"argparse", "getopt", "optparse", "fileinput"} & imported_anywhere(name)


def test_there_is_no_import_cycle() -> None:
    graph = {
        module: (set(imported_at_start(tree(name).body)) & MODULES.keys()) - {module}
        for module, name in MODULES.items()
    }
    list(TopologicalSorter(graph).static_order())  # CycleError names the cycle


@pytest.mark.parametrize("name", [name for name in SOURCES if not name.startswith("enclavectl/cli/")])
def test_only_the_cli_prints_or_exits(name: str) -> None:
    used = {(name, dotted(node)) for node in ast.walk(tree(name)) if dotted(node) in TALKS_OR_EXITS}
    assert used <= MAY_TALK_OR_EXIT
    assert not {"typer", "click", "rich"} & {module.partition(".")[0] for module in imported_anywhere(name)}


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "enclavectl/run.py"])
def test_only_run_starts_processes(name: str) -> None:
    """Others may name subprocess's types and exceptions, not call what starts a process."""
    starters = {f"{module}.{function}" for module, names in STARTS_PROCESSES.items() for function in names}
    calls = {dotted(node.func) for node in ast.walk(tree(name)) if isinstance(node, ast.Call)}
    froms = (node for node in ast.walk(tree(name)) if isinstance(node, ast.ImportFrom))
    taken = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    assert not starters & (calls | taken)
    assert "multiprocessing" not in imported_anywhere(name)


@EVERY_FILE
def test_no_error_is_swallowed(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ExceptHandler):
            catches_all = node.type is None or dotted(node.type) in {"Exception", "BaseException"}
            says_nothing = all(isinstance(line, ast.Pass | ast.Continue | ast.Expr) for line in node.body)
            does_nothing = says_nothing and not any(
                isinstance(n, ast.Call) for line in node.body for n in ast.walk(line)
            )
            assert not (catches_all and does_nothing), f"line {node.lineno}"
        if isinstance(node, ast.Call) and dotted(node.func).endswith("suppress"):
            assert not {"Exception", "BaseException"} & {dotted(argument) for argument in node.args}


@EVERY_FILE
def test_no_file_is_longer_than_one_can_review(name: str) -> None:
    assert len(SOURCES[name].read_text().splitlines()) <= MAX_LINES
