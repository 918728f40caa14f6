"""The rules of the architecture that no other tool checks, read from the sources (docs/architecture.md)."""

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
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


def each_file_of(names: Iterable[str]) -> Callable[[Callable[[str], None]], Callable[[list[str]], None]]:
    """Make a test of a check of one file: a test for each folder, since 600 files would be 600 tests."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(Path(name).parent), []).append(name)

    def make_test(check: Callable[[str], None]) -> Callable[[list[str]], None]:
        @pytest.mark.parametrize("files", folders.values(), ids=list(folders))
        def test(files: list[str]) -> None:
            for name in files:
                check(name)  # a failure shows the name

        return test

    return make_test


PAYLOAD_FILES = [name for name in SOURCES if name.startswith("enclave_payload/")]
OUTSIDE_THE_CLI = [name for name in SOURCES if not name.startswith("enclavectl/cli/")]

PAYLOAD_MAY_IMPORT = {"cryptography", "isal", "numpy", "PIL", "tflite_runtime", "ai_edge_litert"}
TALKS_OR_EXITS = {
    "print", "input", "exit", "quit", "SystemExit", "sys.exit", "os._exit", "os.abort", "sys.stdin",
    "sys.stdout", "sys.stderr", "typer.echo", "typer.secho", "typer.Exit", "click.echo",
}  # fmt: skip
# Outside the CLI, these may: the payload's console, the end of a child whose supervisor is gone, and the end
# of a forked process, which must not return to what its parent was doing.
MAY_TALK_OR_EXIT = {
    ("enclave_payload/key_holder.py", "sys.stderr"),
    ("enclave_payload/key_holder.py", "sys.exit"),
    ("enclavectl/backends/local/sandbox.py", "SystemExit"),
    ("enclavectl/backends/local/namespaces.py", "SystemExit"),
    ("enclave_payload/zygote.py", "os._exit"),
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
# The local payload becomes the first process of a namespace by forking; no other program is started.
MAY_START = {("enclavectl/backends/local/namespaces.py", "os.fork")}
# The one exception to "only run.py starts processes": what looks at pictures is forked from what has no key.
FORKS = "enclave_payload/zygote.py"
# What parses pictures and weights, and the only modules of the payload that may load it.
LOOKS_AT_PICTURES = {"PIL", "isal", "numpy", "tflite_runtime", "ai_edge_litert"}
HOLDS_NO_KEYS = {
    f"enclave_payload.{name}"
    for name in ("picture", "png_pixels", "fitting", "filling", "classifier", "pipeline")
}
MAX_LINES = 400

# Modules at the top of enclavectl that every room may import. Everything else lives in a room.
LEAVES = {
    "errors",
    "progress",
    "files",
    "new_files",
    "scratch",
    "run",
    "trust",
    "suggest",
    "yaml_file",
    "json_object",
    "label",
    "folder_lock",
    "lazy_names",
}
PAYLOAD = "enclave_payload"
# What each room may import beside itself and the leaves. A part of a room is named with a dot.
ARROWS: dict[str, set[str]] = {
    "leaves": set(),
    PAYLOAD: set(),
    "net": {f"{PAYLOAD}.wire", f"{PAYLOAD}.messages"},
    "attestation": set(),
    "kms": {"attestation"},
    "eif": {f"{PAYLOAD}.cbor"},
    "nitro_cli": set(),
    "config": {"net"},
    # Never attestation, protocol, client or a seal: what cannot import the keys cannot open anything.
    "gateway": {"net", "config.gateway", f"{PAYLOAD}.heap"},
    # A card has one set of rules: clients hold attested cards to them, and `build` the one that it measures.
    "models": {"config.setting", "protocol.card", PAYLOAD},
    # The lock has PCR16, which is a hash over the card in the image.
    "artifacts": {"eif", f"{PAYLOAD}.card"},
    "protocol": {PAYLOAD},
    "evidence": {"attestation", "protocol"},
    "client": {"net", "attestation", "protocol", "evidence"},
    "weights": {
        "net",
        "attestation",
        "protocol",
        "client",
        "models",
        f"{PAYLOAD}.card",
        f"{PAYLOAD}.cbor",
        f"{PAYLOAD}.sealed",
        f"{PAYLOAD}.release",
        f"{PAYLOAD}.wire",
    },
    "results": {"client", "evidence", "attestation", "protocol"},
    "targets": {"client", "backends", "config", "models", "attestation", "net"},
    # The client's half, for the round that the image being built serves; it stays out of the image.
    "image": {"eif", "nitro_cli", "models", "artifacts", "protocol", PAYLOAD},
    "host": {"eif", "nitro_cli", "artifacts"},
    "schemas": {"config"},
    "deploy": {"config", "artifacts", "host", "nitro_cli.limits"},
    "page": {"attestation", "net"},
    # It plays every part: the enclaves, the client, and the relay between them.
    "selftest": {
        *("attestation", "backends", "client", "evidence", "models", "net", "protocol", "weights"),
        f"{PAYLOAD}.sealed",
    },
    "backends": {
        *("attestation", "eif", "host", "models", "net", "nitro_cli", "artifacts", "config"),
        *(f"{PAYLOAD}",),
    },
}


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


def dotted(node: ast.AST) -> str:
    """``a.b`` for the expression ``a.b``; nothing for what is not a name."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_both_packages_are_here() -> None:
    assert {"enclavectl.errors", "enclave_payload.server", "enclavectl.cli.main"} <= MODULES.keys()


@each_file_of(PAYLOAD_FILES)
def test_the_payload_imports_its_allow_list_only(name: str) -> None:
    tops = {module.partition(".")[0] for module in imported_anywhere(name)}
    assert tops - sys.stdlib_module_names - PAYLOAD_MAY_IMPORT <= {"enclave_payload"}


@each_file_of(PAYLOAD_FILES)
def test_the_payload_takes_nothing_from_its_caller(name: str) -> None:
    """No options and no environment: what is measured is all that decides."""
    taken = {"sys.argv", "sys.orig_argv", "os.environ", "os.environb", "os.getenv", "os.getenvb"}
    assert not taken & {dotted(node) for node in ast.walk(tree(name))}
    froms = (node for node in ast.walk(tree(name)) if isinstance(node, ast.ImportFrom))
    assert not taken & {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    assert not {"argparse", "getopt", "optparse", "fileinput"} & imported_anywhere(name)


@each_file_of(PAYLOAD_FILES)
def test_what_holds_keys_loads_nothing_that_looks_at_pictures(name: str) -> None:
    if module_of(name) in HOLDS_NO_KEYS:
        return
    assert not {module.partition(".")[0] for module in imported_anywhere(name)} & LOOKS_AT_PICTURES
    if name == FORKS:  # in a function, which runs in its own process only
        assert not {module for node in tree(name).body for module in imported(node)} & HOLDS_NO_KEYS
    else:
        assert not imported_anywhere(name) & HOLDS_NO_KEYS


def test_there_is_no_import_cycle() -> None:
    """Not even one that hides inside a function."""
    graph = {
        module: (imported_anywhere(name) & MODULES.keys()) - {module} for module, name in MODULES.items()
    }
    list(TopologicalSorter(graph).static_order())  # CycleError names the cycle


def room_of(module: str) -> str:
    """The room that a module is in: the name of its folder, ``leaves`` for what is at the top."""
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if package == PAYLOAD:
        return PAYLOAD
    return "leaves" if first in LEAVES | {"", "__main__"} else first


def test_every_module_is_in_a_room_of_the_table() -> None:
    assert {room_of(module) for module in MODULES} - {"cli"} <= ARROWS.keys()


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    """Imports inside functions count as well."""
    allowed = ARROWS[room]
    wrong = {
        f"{module} imports {other}"
        for module, name in MODULES.items()
        if room_of(module) == room and module != "enclavectl.__main__"
        for other in imported_anywhere(name) & MODULES.keys()
        if room_of(other) not in {room, "leaves"} | allowed
        and not any(other in {f"enclavectl.{part}", part} for part in allowed)
    }
    assert not wrong


@each_file_of(OUTSIDE_THE_CLI)
def test_only_the_cli_writes_to_the_standard_streams(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and dotted(node.func) == "os.write" and node.args:
            number = node.args[0]
            assert not (isinstance(number, ast.Constant) and number.value in {1, 2}), f"line {node.lineno}"


@each_file_of(OUTSIDE_THE_CLI)
def test_only_the_cli_prints_or_exits(name: str) -> None:
    # A field of a class may have the name of a function.
    fields = {node.target for node in ast.walk(tree(name)) if isinstance(node, ast.AnnAssign)}
    used = {
        (name, dotted(node)) for node in set(ast.walk(tree(name))) - fields if dotted(node) in TALKS_OR_EXITS
    }
    assert used <= MAY_TALK_OR_EXIT
    assert not {"typer", "click", "rich"} & {module.partition(".")[0] for module in imported_anywhere(name)}


@each_file_of(name for name in SOURCES if name != "enclavectl/run.py")
def test_only_run_starts_processes(name: str) -> None:
    """Others may name subprocess's types and exceptions, not call what starts a process."""
    starters = {f"{module}.{function}" for module, names in STARTS_PROCESSES.items() for function in names}
    calls = {dotted(node.func) for node in ast.walk(tree(name)) if isinstance(node, ast.Call)}
    froms = (node for node in ast.walk(tree(name)) if isinstance(node, ast.ImportFrom))
    taken = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    allowed = {starter for module, starter in MAY_START if module == name}
    assert starters & (calls | taken) <= allowed | ({"os.fork"} if name == FORKS else set())
    assert "multiprocessing" not in imported_anywhere(name)


@each_file_of(SOURCES)
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


@each_file_of(SOURCES)
def test_no_file_is_longer_than_one_can_review(name: str) -> None:
    assert len(SOURCES[name].read_text().splitlines()) <= MAX_LINES
