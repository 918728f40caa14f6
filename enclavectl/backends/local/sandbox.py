"""What the local payload may not do, set by itself before it loads anything that parses input.

Each layer stands alone: where a kernel lacks one, or forbids it to this user, the others hold.
docs/threat-model.md says what each is worth; tests/backends/test_local_sandbox.py tries each attack.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from enclave_payload.lockdown import lower_limit
from enclave_payload.media import MAX_PICTURE_BYTES
from enclavectl.backends.local import kernel
from enclavectl.backends.local.file_tree import DEVICES, enter_file_tree, needed_files
from enclavectl.backends.local.landlock import restrict_files
from enclavectl.backends.local.namespaces import continue_as_first_process, leave_namespaces
from enclavectl.backends.local.seccomp import refuse_calls

_MAX_DESCRIPTORS = 256
_WITHOUT = "sandbox: without "


class Layer(StrEnum):
    """A part of the sandbox that some kernels lack."""

    NAMESPACES = "namespaces"
    FILE_TREE = "file tree"
    LANDLOCK = "Landlock"
    SECCOMP = "seccomp"


class Plan(NamedTuple):
    """``folder`` is an empty one, to build the tree in; ``readable`` is what the payload reads of its own."""

    memory_mib: int
    folder: Path
    readable: tuple[Path, ...]


def die_with_parent(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, even by SIGKILL.

    Raises:
        SystemExit: the parent was gone before we asked.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit("the supervisor is gone")


def enter(plan: Plan, without: Iterable[Layer] = ()) -> dict[Layer, str]:
    """Give up all that the payload does not need. It goes on in a process of its own where that is possible.

    Return the layers that are missing here, with the reasons. ``without`` leaves layers out, for tests of
    what holds on lesser kernels.
    """
    missing = dict.fromkeys(without, "left out")
    tree = needed_files(plan.readable)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if _has(Layer.NAMESPACES, missing, leave_namespaces):
        _has(Layer.FILE_TREE, missing, lambda: enter_file_tree(tree, plan.folder))
        continue_as_first_process()
    else:
        missing.setdefault(Layer.FILE_TREE, "needs namespaces")
    _set_limits(plan.memory_mib)
    kernel.drop_capabilities()
    _has(Layer.LANDLOCK, missing, lambda: restrict_files(tree.readable, DEVICES))
    # No other process of this user may read our memory: it holds pictures and keys. After the namespaces,
    # since unshare(CLONE_NEWUSER) makes it readable again.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    _has(Layer.SECCOMP, missing, refuse_calls)
    return missing


def sandbox_line(missing: Mapping[Layer, str]) -> str:
    """Return the console's line about the sandbox, which ``missing_layers`` reads."""
    if not missing:
        return "sandbox: complete"
    return _WITHOUT + "; ".join(f"{layer} ({why})" for layer, why in missing.items())


def missing_layers(console: str) -> str | None:
    """Return which layers the console says are missing, and why; None for none."""
    for line in console.splitlines():
        _, found, layers = line.partition(_WITHOUT)
        if found:
            return layers
    return None


def _has(layer: Layer, missing: dict[Layer, str], step: Callable[[], object]) -> bool:
    """Set a layer up; return whether it is there, and else note why not."""
    if layer not in missing:
        try:
            step()
        except OSError as exc:
            missing[layer] = exc.strerror or str(exc)
    return layer not in missing


def _set_limits(memory_mib: int) -> None:
    """Bound memory, descriptors and the size of a file; no core is dumped."""
    for limit, wanted in (
        (resource.RLIMIT_AS, memory_mib * 1024 * 1024),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, MAX_PICTURE_BYTES),  # memory that has a picture counts as a file
        (resource.RLIMIT_CORE, 0),
    ):
        lower_limit(limit, wanted)
