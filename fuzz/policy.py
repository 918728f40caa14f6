"""Any bytes are a policy that we write back and edit as it is meant, or a UsageError with a PolicyCode."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from enclavectl.attestation import PolicyCode, Release, Revocation, parse_policy, render_policy
from enclavectl.attestation.policy_edit import EditedPolicy, add_release, revoke
from enclavectl.attestation.policy_file import decode_policy
from enclavectl.errors import UsageError

_CODES = set(PolicyCode)
_NAME = "policy.yaml"
_WHEN = datetime(2027, 1, 31, tzinfo=UTC)
_RELEASE = Release(name="fuzzed", pcrs={index: bytes([0xF0 + index]) * 48 for index in range(3)})
_PCRS = "{PCR0: REGISTER, PCR1: REGISTER, PCR2: REGISTER, PCR16: REGISTER}".replace("REGISTER", "ab" * 48)
_POLICY = f"""\
# Reviewed.
schema: enclavectl.policy/2
accept: [nitro, simulated]
max_age_s: 60
clock_skew_s: 0
unsafe_allow_debug: false
revoked:
  - name: '0.9'
    label: '0123456789abcdef'
    date: 2027-01-31
    reason: CVE-2027-1234
  - {{date: '2027-01-31T12:00:00Z', reason: weights, pcrs: {{PCR16: {"cd" * 48}}}}}
releases:
  - name: "1.0"  # as tagged
    not_before: 2026-01-31
    expires: '2027-06-30T12:00:00Z'
    notes: |
      Two
      lines.
    pcrs: {_PCRS}
"""
SEEDS: list[bytes] = [
    b"",
    _POLICY.encode(),
    _POLICY.replace("\n", "\r\n").encode(),
    _POLICY.replace("policy/2", "policy/1").encode(),
    render_policy(parse_policy(_POLICY, source=_NAME)).encode("utf-8-sig"),
    b"schema: enclavectl.policy/2\naccept: [simulated]\nunsafe_allow_debug: true\nreleases: []\n",
]


def one(data: bytes) -> None:
    try:
        text = decode_policy(data, source=_NAME)
        policy = parse_policy(text, source=_NAME)
    except UsageError as error:
        _check_error(error)
        return
    assert parse_policy(render_policy(policy), source=_NAME) == policy
    entry = Revocation(date=_WHEN, reason="fuzzed", pcrs={0: b"\xab" * 48})
    _check_edit(lambda: add_release(text, _RELEASE, source=_NAME))
    _check_edit(lambda: revoke(text, entry, source=_NAME))


def _check_error(error: UsageError) -> None:
    assert error.code in _CODES, error.code
    assert error.message.startswith(_NAME), error.message


def _check_edit(edit: Callable[[], EditedPolicy]) -> None:
    """Hold an edit to what it promises; one that the policy refuses (its list is full, say) is an error."""
    try:
        found = edit()
    except UsageError as error:
        _check_error(error)
        return
    assert parse_policy(found.text, source=_NAME) == found.policy
