"""The two verifiers beside each other: enclavectl.attestation and browser/src/verify.ts."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def judging(cases: Sequence[Case]) -> Iterator[Callable[[], list[str]]]:
    """Have the browser's verifier judge, in Node and beside the block; the value waits for its verdicts."""
    with tempfile.TemporaryFile("w+") as lines:
        lines.writelines(f"{case.to_line()}\n" for case in cases)
        lines.seek(0)
        argv = [node(), str(built_tests() / "judge.mjs")]
        with subprocess.Popen(argv, stdin=lines, stdout=subprocess.PIPE, text=True) as judge:

            def verdicts() -> list[str]:
                found = judge.communicate(timeout=600)[0].splitlines()
                assert judge.returncode == 0
                assert len(found) == len(cases)
                return found

            yield verdicts


def browser_verdicts(cases: Sequence[Case]) -> list[str]:
    """The verdicts of the browser's verifier."""
    with judging(cases) as verdicts:
        return verdicts()


def differences(cases: Sequence[Case]) -> list[str]:
    """One line for each case on which the two disagree."""
    with judging(cases) as verdicts:
        ours = list(map(python_verdict, cases))
        return [
            f"{case.name}: Python {own}, browser {theirs}"
            for case, own, theirs in zip(cases, ours, verdicts(), strict=True)
            if own != theirs
        ]
