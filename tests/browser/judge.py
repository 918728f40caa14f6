"""The two verifiers beside each other: enclavectl.attestation and browser/src/verify.ts."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from enclavectl.attestation import Policy, TrustRoot, verify
from enclavectl.errors import AttestationError
from enclavectl.page.content import policy_members
from tests.browser.lane import built_tests, node

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A document and all that it is held to. ``now`` is of whole milliseconds, as a browser's clock is."""

    name: str
    document: bytes
    root: TrustRoot
    policy: Policy
    nonce: bytes
    user_data: bytes
    now: datetime

    def to_line(self) -> str:
        """The case as test/judge.ts reads it."""
        members = {
            "document": self.document,
            "root": self.root.certificate_der,
            "nonce": self.nonce,
            "user_data": self.user_data,
        }
        return json.dumps(
            {name: base64.b64encode(value).decode() for name, value in members.items()}
            | {
                "trust": str(self.root.trust),
                "policy": policy_members(self.policy),
                "now": (self.now - _EPOCH) // timedelta(milliseconds=1),
            }
        )


def python_verdict(case: Case) -> str:
    """The verdict of enclavectl.attestation, as test/judge.ts writes it."""
    try:
        found = verify(
            case.document,
            case.policy,
            root=case.root,
            nonce=case.nonce,
            user_data=case.user_data,
            now=case.now,
        )
    except AttestationError as error:
        return str(error.code)
    return f"ok {found.trust} {found.release or '-'}"


def browser_verdicts(cases: Sequence[Case]) -> list[str]:
    """The verdicts of the browser's verifier, in Node."""
    lines = "".join(f"{case.to_line()}\n" for case in cases)
    done = subprocess.run(
        [node(), str(built_tests() / "judge.mjs")],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def differences(cases: Sequence[Case]) -> list[str]:
    """One line for each case on which the two disagree."""
    found = browser_verdicts(cases)
    assert len(found) == len(cases)
    return [
        f"{case.name}: Python {ours}, browser {theirs}"
        for case, theirs in zip(cases, found, strict=True)
        if (ours := python_verdict(case)) != theirs
    ]
