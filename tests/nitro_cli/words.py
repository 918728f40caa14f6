"""nitro-cli's words on standard error, in the form of 1.5 (common/mod.rs, document_errors.rs)."""

from __future__ import annotations

from collections.abc import Sequence

LINK = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html"


def backtrace(subactions: Sequence[str], *, action: str = "Run Enclave") -> str:
    lines = "".join(f"\n    {one}" for one in subactions)
    return (
        f"  Action: {action}\n  Subactions:{lines}\n"
        "  Root error file: src/enclave_proc/resource_manager.rs\n  Root error line: 859\n  Version: 1.5.0"
    )


def error(
    code: str,
    info: str = "A sentence that is always the same.",
    *,
    subactions: Sequence[str] | None = None,
    log: str | None = None,
    prefix: str = "",
) -> str:
    """One error; with ``subactions`` as BACKTRACE=1 shows it, with ``log`` as it names its file."""
    text = f"{prefix}[ {code} ] {info}\n\nFor more details, please visit {LINK}#{code}"
    if subactions is not None:
        text += f"\n\nBacktrace:\n{backtrace(subactions)}"
    if log is not None:
        text += f'\n\nIf you open a support ticket, please provide the error log found at "{log}"'
    return text + "\n"


def launch_failure(first: str) -> str:
    """What ``run-enclave`` says when its daemon failed with ``first``: the echo comes last."""
    return f"Start allocating memory...\n{first}Failed connections: 1\n" + error(
        "E39", subactions=["Failed to handle all enclave process replies"], log="/var/log/x/err2.log"
    )
