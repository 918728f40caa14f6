"""A document beside the releases of a policy, register by register; PCR3 and PCR4 from plain values."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.attestation import (
    AttestationCode,
    LifeState,
    Policy,
    Release,
    Revocation,
    aws_nitro_root,
    examine_archived,
    explain,
)
from enclavectl.attestation.comparison import RegisterState, compare_release
from enclavectl.attestation.registers import instance_register, role_register
from enclavectl.attestation.spelling import decode_document
from enclavectl.errors import AttestationError, UsageError
from tests.attestation.policies import policies_of
from tests.attestation.test_archived import documents, needs_vectors, policy_for
from tests.forge import PCRS, RELEASE, EnclaveForge, accepting

NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FAR = Release(name="far", pcrs=dict.fromkeys((0, 1, 2), b"\xee" * 48))
NEAR = replace(RELEASE, name="near", pcrs={**PCRS, 2: b"\xee" * 48, 16: b"\x66" * 48})


@dataclass(frozen=True)
class Claims:
    pcrs: dict[int, bytes]
    is_debug: bool = False


def test_a_register_that_is_missing_is_not_zero() -> None:
    compared = compare_release(NEAR, {**PCRS, 3: bytes(48)})
    assert {one.index: one.state for one in compared.registers} == {
        0: RegisterState.EQUAL,
        1: RegisterState.EQUAL,
        2: RegisterState.DIFFERS,
        8: RegisterState.EQUAL,
        16: RegisterState.MISSING,
    }
    assert [one.index for one in compared.differences] == [2, 16]
    zeros = compare_release(NEAR, {**PCRS, 16: bytes(48)}).differences
    assert [one.state for one in zeros] == [RegisterState.DIFFERS, RegisterState.DIFFERS]


def test_the_nearest_release_comes_first() -> None:
    found = explain(accepting(FAR, NEAR), Claims(dict(PCRS)), at=NOON)
    assert [one.release.name for one in found.judged] == ["near", "far"]
    assert found.nearest is not None
    assert found.nearest.release == NEAR
    assert found.accepted is None
    assert found.refusal is not None
    assert found.refusal.code == AttestationCode.PCR_MISMATCH
    assert "release near, the nearest of 2 releases" in found.refusal.message
    assert "(also differs: PCR16)" in found.refusal.message


def test_what_passes_is_named() -> None:
    found = explain(accepting(FAR, RELEASE), Claims(dict(PCRS)), at=NOON)
    assert (found.accepted, found.refusal, found.revocation) == (RELEASE, None, None)


def test_a_match_that_has_expired_is_shown_as_such() -> None:
    ended = replace(RELEASE, expires=NOON)
    found = explain(accepting(ended), Claims(dict(PCRS)), at=NOON)
    assert found.nearest is not None
    assert found.nearest.comparison.is_match
    assert (found.nearest.state, found.accepted) == (LifeState.EXPIRED, None)
    assert found.refusal is not None
    assert found.refusal.code == AttestationCode.RELEASE_EXPIRED


def test_a_revocation_is_shown_with_the_release_that_it_beats() -> None:
    entry = Revocation(date=NOON, reason="a leak", label=RELEASE.label)
    policy = replace(accepting(replace(RELEASE, expires=NOON)), revoked=(entry,))
    found = explain(policy, Claims(dict(PCRS)), at=NOON - DAY)
    assert found.revocation == entry
    assert found.nearest is not None
    assert found.nearest.state is LifeState.REVOKED
    assert found.refusal is not None
    assert found.refusal.code == AttestationCode.RELEASE_REVOKED


def test_a_debug_enclave_is_refused_unless_it_is_allowed_by_name() -> None:
    claims = Claims({**PCRS, **dict.fromkeys((0, 1, 2), bytes(48))}, is_debug=True)
    refused = explain(accepting(RELEASE), claims, at=NOON).refusal
    assert refused is not None
    assert refused.code == AttestationCode.DEBUG_MODE
    allowed = explain(accepting(unsafe_allow_debug=True), claims, at=NOON)
    assert (allowed.refusal, allowed.accepted, allowed.nearest) == (None, None, None)


@given(policies_of(at_least=1), st.data())
def test_an_explanation_says_what_the_policy_does(policy: Policy, data: st.DataObject) -> None:
    release = data.draw(st.sampled_from(policy.releases))
    claims = Claims(
        {**release.pcrs, data.draw(st.integers(0, 31)): data.draw(st.binary(min_size=48, max_size=48))}
    )
    at = NOON + timedelta(days=data.draw(st.integers(-400_000, 400_000)))
    found = explain(policy, claims, at=at)
    assert len(found.judged) == len(policy.releases)
    distances = [len(one.comparison.differences) for one in found.judged]
    assert distances == sorted(distances)
    if found.refusal is None:
        assert found.accepted == policy.match_release(claims, at=at)
    else:
        with pytest.raises(AttestationError) as caught:
            policy.match_release(claims, at=at)
        assert (found.refusal.code, found.refusal.message) == (caught.value.code, caught.value.message)


ROLE = "arn:aws:iam::123456789012:role/Webserver"
# 48 zero bytes and the text, through sha384sum.
ROLE_REGISTER = (
    "78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb2b2c7f75329dccd99aa5f6ef4fc1f1a452e315b9e98f9e312e6921e6"
)
INSTANCE_REGISTER = (
    "d6432900ac1c343cb40286898792c55e962aef0cc35c4910c0c286145b51af19e782cb21cc31a042671d7dfbd398251c"
)


def test_the_registers_of_a_role_and_an_instance_are_one_extension_from_zero() -> None:
    assert role_register(ROLE).hex() == ROLE_REGISTER
    assert instance_register("i-0123456789abcdef0").hex() == INSTANCE_REGISTER


@pytest.mark.parametrize(
    "arn",
    ["", "Webserver", "arn:aws:sts::123456789012:assumed-role/Webserver/i-1", f"{ROLE} ", f"{ROLE}\n",
     "arn:aws:iam::123456789012:user/Webserver", "arn:aws:iam::12:role/Webserver"],
)  # fmt: skip
def test_what_is_not_a_role_s_arn_is_refused(arn: str) -> None:
    with pytest.raises(UsageError, match="expected an ARN such as") as caught:
        role_register(arn)
    assert caught.value.hint


@pytest.mark.parametrize("instance", ["", "i-", "i-0123", "I-0123456789abcdef0", "i-0123456789abcdef0-enc1"])
def test_what_is_not_an_instance_s_id_is_refused(instance: str) -> None:
    with pytest.raises(UsageError, match="expected an id such as"):
        instance_register(instance)


def test_roles_of_every_partition_and_path_are_taken() -> None:
    for arn in (
        ROLE,
        "arn:aws-us-gov:iam::123456789012:role/a/b/c+=,.@-_1",
        "arn:aws-cn:iam::1" + "2" * 11 + ":role/x",
    ):
        assert len(role_register(arn)) == 48


@needs_vectors
def test_the_instance_s_register_is_that_of_every_aws_document() -> None:
    for entry, document in documents("real"):
        found = examine_archived(document, None, root=aws_nitro_root())
        instance = str(entry["module_id"]).partition("-enc")[0]
        assert found.pcrs[4] == instance_register(instance)


@needs_vectors
def test_a_real_document_passes_with_the_model_s_register_pinned() -> None:
    """Marlin's document of 2025-04-29, with PCR16 extended and locked on a Nitro host."""
    with_model = [
        (entry, document)
        for entry, document in documents("real")
        if str(entry["file"]).startswith("marlin") and "16" in dict(entry["pcrs"])  # type: ignore[call-overload]
    ]
    assert with_model
    for _, document in with_model:
        found = examine_archived(document, None, root=aws_nitro_root())
        pinned = {index: found.pcrs[index] for index in (0, 1, 2, 16)}
        archived = examine_archived(document, policy_for(pinned), root=aws_nitro_root())
        assert archived.release == "theirs"
        with pytest.raises(AttestationError) as caught:
            examine_archived(document, policy_for({**pinned, 16: b"\1" * 48}), root=aws_nitro_root())
        assert caught.value.code == AttestationCode.PCR_MISMATCH


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "binary": bytes,
    "hex": lambda data: data.hex().encode(),
    "hex in upper case with a line end": lambda data: data.hex().upper().encode() + b"\n",
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64 with Windows line ends": lambda data: base64.encodebytes(data).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_document_is_read_in_each_spelling(forge: EnclaveForge, spelling: str) -> None:
    document = forge.genuine()
    assert decode_document(SPELLINGS[spelling](document), name="d") == document


@pytest.mark.parametrize(
    "text", [b"", b" \n", b"abc", b"-----BEGIN X-----", b"QQ=", b"QR==", b"QQ-+", b"Q-=", b"Q-Q", b"a b c!"]
)
def test_text_that_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match=r"^d: expected an attestation document"):
        decode_document(text, name="d")


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    with suppress(UsageError):
        assert decode_document(data, name="d")
