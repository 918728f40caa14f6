"""The way to a remote, one step after the other, up to verified evidence. No picture is read or sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from enclavectl.client.session import request_evidence
from enclavectl.errors import EnclavectlError
from enclavectl.net.address import is_network
from enclavectl.net.frames import FrameStream
from enclavectl.net.transport import connection_steps, open_stream
from enclavectl.targets.remotes import Remote, target_of_remote
from enclavectl.targets.target import Target
from enclavectl.targets.verification import VerificationOptions

FILES_STEP = "files"
EVIDENCE_STEP = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStep:
    """A step that was taken: what it showed, or the error that ended the check."""

    name: str
    detail: str
    error: EnclavectlError | None = None

    def to_json(self) -> dict[str, object]:
        """Return the object in the list of steps."""
        code = None if self.error is None else self.error.code
        return {"step": self.name, "passed": self.error is None, "detail": self.detail, "error": code}


def check_remote(
    remote: Remote, options: VerificationOptions, *, timeout_s: float, tell: Callable[[CheckStep], None]
) -> EnclavectlError | None:
    """Take each step until one fails, and return its error; ``tell`` gets every step once it is decided."""
    steps = [FILES_STEP]

    def passed(name: str, detail: str) -> None:
        steps.pop(0)
        tell(CheckStep(name=name, detail=detail))

    try:
        target = target_of_remote(remote, options)
        releases = len(target.expectation.policy.releases)
        passed(FILES_STEP, f"the policy names {releases} release{'' if releases == 1 else 's'}")
        steps += [*connection_steps(target.address), EVIDENCE_STEP]
        passed(EVIDENCE_STEP, _evidence(target, passed, time.monotonic() + timeout_s))
    except EnclavectlError as error:
        tell(CheckStep(name=steps[0], detail=error.message, error=error))
        return error
    return None


def _evidence(target: Target, passed: Callable[[str, str], None], deadline: float) -> str:
    left_s = deadline - time.monotonic()
    connected = open_stream(target.address, left_s, target.access, passed)
    stream = FrameStream(connected, f"the enclave at {target.address}", is_remote=is_network(target.address))
    try:
        enclave = request_evidence(stream, target.expectation, deadline)
    finally:
        stream.close()
    document = enclave.document
    return f"release {document.release}, trust {document.trust}, model {enclave.card.model_id}"
