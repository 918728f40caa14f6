"""The line above every answer: the trust in the evidence, in words."""

from __future__ import annotations

from enclavectl.trust import LOCAL_ROOT, Trust

_STYLES = {
    "nitro": "bold green",
    "emulated": "bold yellow",
    "simulated": "bold yellow",
    "debug": "bold red",
}
_WORDS = {
    "nitro": "AWS signed for this enclave, whose code is measured.",
    "emulated": (
        "a virtual machine on this host plays the enclave: QEMU measured it, nobody signed. It protects "
        "nothing from this host's owner."
    ),
    "simulated": (
        "a development key signed for this enclave, which runs on no protected hardware. It protects nothing "
        "from whoever runs it."
    ),
    "debug": "the enclave runs in debug mode: nothing measures its code and its console can be read.",
}
# For the backend local, whose root signs for nothing but processes.
_PROCESS_WORDS = "a process on this machine plays the enclave. It protects nothing from this machine's owner."


def trust_line(trust: str, root: str | None) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the trust and what it is worth, each with its style; ``root`` is the name of who signed."""
    is_process = trust == Trust.SIMULATED and root == LOCAL_ROOT
    words = _PROCESS_WORDS if is_process else _WORDS[trust]
    return (trust.upper(), _STYLES[trust]), (f"  {words}", "")
