"""Why a boot failed, in one line of cause and one of fix, from the last words of the console and of QEMU."""

from __future__ import annotations

import re
from dataclasses import dataclass

from enclavectl.errors import visible

# A cause quotes one line; a kernel's are short, and a traceback's last one may be as long as it likes.
_QUOTE = 160
_BUILD = "enclavectl build writes an image that boots; enclavectl eif verify IMAGE checks one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A cause with its stable code, and what to do about it."""

    code: str
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class _Sign:
    """A line that shows a cause; ``{0}`` in the text is what the pattern found."""

    pattern: re.Pattern[str]
    code: str
    text: str
    fix: str


def _sign(pattern: str, code: str, text: str, fix: str) -> _Sign:
    return _Sign(re.compile(pattern, re.MULTILINE), code, text, fix)


# In the order of precedence: what ran out of memory panics afterwards, and what panics ends.
_SIGNS = (
    _sign(
        r"unsupported machine type|No machine specified|Use -machine help",
        "no-machine",
        "this QEMU has no machine nitro-enclave",
        "enclavectl doctor shows which QEMU has it and how to get one",
    ),
    _sign(
        r"(Out of memory: [^\n]*|System is deadlocked on memory|MemoryError|out of memory"
        r"|Initramfs unpacking failed: [^\n]*|junk within compressed archive|Cannot allocate memory)",
        "out-of-memory",
        "the enclave ran out of memory ({0})",
        "give it more: enclavectl run --memory MIB, or enclave.memory_mib",
    ),
    _sign(
        r"^(?:.*ModuleNotFoundError|.*ImportError): ([^\n]*)",
        "module-missing",
        "a Python module is missing in the image ({0})",
        "add it to the image, in its Dockerfile, and build again",
    ),
    _sign(
        r"(No working init found|Requested init [^\n]*|Failed to execute /init[^\n]*)",
        "no-init",
        "the image has no init that the kernel can start ({0})",
        _BUILD,
    ),
    _sign(
        r"init: ([^\n:]+): (?:No such file or directory|Permission denied|Exec format error)",
        "command-not-found",
        "the image's command cannot be started ({0})",
        "correct CMD or ENTRYPOINT in the Dockerfile, or the program's architecture, and build again",
    ),
    _sign(
        r"init: heartbeat[^\n]*",
        "no-heartbeat",
        "the enclave's init could not report to its parent over vsock",
        "does the image's kernel have the vsock modules? enclavectl kernel prepare collects them",
    ),
    _sign(r"Kernel panic - not syncing: ([^\n]*)", "kernel-panic", "the kernel panicked ({0})", _BUILD),
    _sign(
        r"init: the command ended with ((?:status|signal) [0-9]+)",
        "payload-ended",
        "the image's command ended with {0}",
        "the last lines of its console say why: enclavectl logs",
    ),
    _sign(
        r"^qemu-system[^:\n]*: ([^\n]*)",
        "qemu-failed",
        "QEMU refused to start it ({0})",
        "enclavectl eif verify IMAGE checks the image, enclavectl doctor this host",
    ),
)


def find_cause(console: str) -> Cause | None:
    """Return the cause that a console shows, or None."""
    for sign in _SIGNS:
        found = sign.pattern.search(console)
        if found is not None:
            said = found[found.lastindex or 0].strip()
            return Cause(code=sign.code, text=sign.text.format(visible(said)[:_QUOTE]), fix=sign.fix)
    return None
