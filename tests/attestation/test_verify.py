"""What passes, what the result says, and what only the policy, the root or the caller gets wrong."""

from __future__ import annotations

import copy
import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509

from enclavectl.attestation import (
    AttestationCode,
    Policy,
    Release,
    Trust,
    VerifiedDocument,
    aws_nitro_root,
)
from enclavectl.errors import AttestationError, UsageError
from tests.forge import MODULE_ID, NONCE, NOW, PCRS, RELEASE, USER_DATA, Blueprint, EnclaveForge, accepting

ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


def test_genuine_document(forge: EnclaveForge) -> None:
    verified = forge.verify(forge.genuine(public_key=b"key"))
    assert verified.module_id == MODULE_ID
    assert verified.timestamp == NOW
    assert verified.timestamp.tzinfo is UTC
    assert {index: verified.pcrs[index] for index in PCRS} == PCRS
    assert len(verified.pcrs) == 16
    assert (verified.nonce, verified.user_data, verified.public_key) == (NONCE, USER_DATA, b"key")
    assert (verified.trust, verified.release, verified.root) == (Trust.SIMULATED, "1.0", "forge")
    assert len(verified.chain) == 3
    assert verified.chain[-1].not_after == NOW.replace(microsecond=0) + timedelta(hours=3)


def test_nobody_else_makes_a_verified_document(forge: EnclaveForge) -> None:
    verified = forge.verify(forge.genuine())
    values = {field.name: getattr(verified, field.name) for field in dataclasses.fields(verified)}
    with pytest.raises(TypeError, match="verify"):
        VerifiedDocument(**values, proof=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, trust=Trust.NITRO)  # type: ignore[call-arg]  # refused by mypy as well
    with pytest.raises(dataclasses.FrozenInstanceError):
        verified.trust = Trust.NITRO  # type: ignore[misc]  # frozen, which mypy sees as well
    with pytest.raises(TypeError):
        verified.pcrs[0] = bytes(48)  # type: ignore[index]  # a Mapping, which mypy sees as well
    assert copy.copy(verified.chain) == verified.chain


# What AWS does, or may do, and a verifier must take.
@pytest.mark.parametrize("definite", [True, False])
def test_both_map_forms_pass(forge: EnclaveForge, definite: bool) -> None:
    assert forge.verify(forge.forged(lambda plan: setattr(plan, "definite", definite)))


def test_absent_optionals_may_be_left_out(forge: EnclaveForge) -> None:
    assert forge.verify(forge.forged(lambda plan: plan.drop("public_key"))).public_key is None


def test_an_empty_public_key_is_no_key(forge: EnclaveForge) -> None:
    assert forge.verify(forge.genuine(public_key=b"")).public_key is None


def test_limits_are_inclusive(forge: EnclaveForge) -> None:
    document = forge.genuine(nonce=b"n" * 1024, user_data=b"u" * 1024, public_key=b"k" * 1024)
    assert forge.verify(document, nonce=b"n" * 1024, user_data=b"u" * 1024)


def test_tag_18_may_stand_in_front(forge: EnclaveForge) -> None:
    assert forge.verify(b"\xd2" + forge.genuine())


def test_both_halves_of_s_pass(forge: EnclaveForge) -> None:
    """64 of AWS's 126 documents have a high S; so the bytes of a document are no identity."""
    document = forge.genuine()
    s = int.from_bytes(document[-48:])
    twin = document[:-48] + (ORDER - s).to_bytes(48)
    assert forge.verify(document).timestamp == forge.verify(twin).timestamp


def test_a_chain_without_key_identifiers_or_leaf_constraints_passes(forge: EnclaveForge) -> None:
    """59 of AWS's 126 instance certificates have neither identifier."""

    def edit(plan: Blueprint) -> None:
        for item in plan.intermediates:
            item.drop(x509.AuthorityKeyIdentifier)
            item.drop(x509.SubjectKeyIdentifier)
        plan.leaf.drop(x509.BasicConstraints)

    assert forge.verify(forge.forged(edit))


def test_key_identifiers_count_only_where_both_exist(forge: EnclaveForge) -> None:
    def parent_without(plan: Blueprint) -> None:
        plan.intermediates[0].drop(x509.SubjectKeyIdentifier)

    def child_with_a_name_in_its_place(plan: Blueprint) -> None:
        issuer = [x509.DirectoryName(plan.intermediates[1].issuer)]
        plan.intermediates[1].replace(x509.AuthorityKeyIdentifier(None, issuer, 7), critical=False)

    for edit in (parent_without, child_with_a_name_in_its_place):
        assert forge.verify(forge.forged(edit))


def test_every_register_may_be_there(forge: EnclaveForge) -> None:
    every = {index: bytes([index + 1]) * 48 for index in range(32)}
    document = forge.forged(lambda plan: plan.set("pcrs", every))
    assert forge.verify(document, accepting(Release(name="all", pcrs=every))).release == "all"


# Time
@pytest.mark.parametrize(
    ("shift", "code"),
    [
        (timedelta(minutes=-2), None),
        (timedelta(minutes=-2, milliseconds=-124), AttestationCode.CHAIN_NOT_YET_VALID),
        (timedelta(minutes=5), None),
        (timedelta(minutes=5, microseconds=1), AttestationCode.TOO_OLD),
        (timedelta(hours=3, minutes=2), AttestationCode.CHAIN_EXPIRED),
        (timedelta(days=400 * 365), AttestationCode.CHAIN_EXPIRED),
    ],
)
def test_now(forge: EnclaveForge, shift: timedelta, code: AttestationCode | None) -> None:
    if code is None:
        assert forge.verify(forge.genuine(), now=NOW + shift)
        return
    with pytest.raises(AttestationError) as caught:
        forge.verify(forge.genuine(), now=NOW + shift)
    assert caught.value.code == code


@pytest.mark.parametrize("now", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_extreme_clocks(forge: EnclaveForge, now: datetime) -> None:
    with pytest.raises(AttestationError):
        forge.verify(forge.genuine(), now=now)


def test_any_time_zone_will_do(forge: EnclaveForge) -> None:
    assert forge.verify(forge.genuine(), now=NOW.astimezone(timezone(timedelta(hours=9))))


# What the caller may not ask for
@pytest.mark.parametrize("nonce", [b"", bytes(15), bytes(1025)])
def test_weak_nonce(forge: EnclaveForge, nonce: bytes) -> None:
    with pytest.raises(UsageError, match="nonce"):
        forge.verify(forge.genuine(nonce=nonce), nonce=nonce)


@pytest.mark.parametrize("user_data", [b"", bytes(1025)])
def test_unbound_user_data(forge: EnclaveForge, user_data: bytes) -> None:
    with pytest.raises(UsageError, match="user_data"):
        forge.verify(forge.genuine(user_data=user_data), user_data=user_data)


def test_naive_time(forge: EnclaveForge) -> None:
    with pytest.raises(UsageError, match="time zone"):
        forge.verify(forge.genuine(), now=NOW.replace(tzinfo=None))


def test_what_is_missing_is_called_missing(forge: EnclaveForge) -> None:
    with pytest.raises(AttestationError, match=r"^nonce: expected 0001.* \(32 bytes\), found none"):
        forge.verify(forge.genuine(nonce=None))
    with pytest.raises(AttestationError, match=r"^user_data: expected 0001.* \(48 bytes\), found zero bytes"):
        forge.verify(forge.genuine(user_data=b""))


# Trust and debug mode
def test_a_simulated_document_against_the_aws_root(forge: EnclaveForge) -> None:
    nitro = Policy(accept=frozenset({Trust.NITRO}), releases=(RELEASE,))
    with pytest.raises(AttestationError) as caught:
        forge.verify(forge.genuine(), nitro, root=aws_nitro_root())
    assert caught.value.code == AttestationCode.CHAIN_ROOT
    assert "aws (nitro" in caught.value.message


def test_a_simulated_root_where_only_nitro_is_accepted(forge: EnclaveForge) -> None:
    nitro = Policy(accept=frozenset({Trust.NITRO}), releases=(RELEASE,), unsafe_allow_debug=True)
    for document in (forge.genuine(), EnclaveForge({}).genuine()):
        with pytest.raises(AttestationError) as caught:
            forge.verify(document, nitro)
        assert caught.value.code == AttestationCode.TRUST_NOT_ACCEPTED


def test_another_development_root(forge: EnclaveForge) -> None:
    with pytest.raises(AttestationError) as caught:
        forge.verify(EnclaveForge().genuine())
    assert caught.value.code == AttestationCode.CHAIN_ROOT


def test_debug_mode_passes_only_where_the_policy_says_so() -> None:
    debug = EnclaveForge({4: b"\x04" * 48})
    with pytest.raises(AttestationError) as caught:
        debug.verify(debug.genuine())
    assert caught.value.code == AttestationCode.DEBUG_MODE
    for policy in (accepting(unsafe_allow_debug=True), accepting(RELEASE, unsafe_allow_debug=True)):
        verified = debug.verify(debug.genuine(), policy)
        assert (verified.trust, verified.release) == (Trust.DEBUG, None)


def test_debug_mode_still_needs_the_session(forge: EnclaveForge) -> None:
    debug = EnclaveForge({})
    policy = accepting(unsafe_allow_debug=True)
    with pytest.raises(AttestationError) as caught:
        debug.verify(debug.genuine(), policy, nonce=b"n" * 32)
    assert caught.value.code == AttestationCode.NONCE


def test_a_policy_for_debug_alone_refuses_what_it_cannot_name(forge: EnclaveForge) -> None:
    with pytest.raises(AttestationError) as caught:
        forge.verify(forge.genuine(), accepting(unsafe_allow_debug=True))
    assert caught.value.code == AttestationCode.NO_RELEASE


# Releases
def test_releases_are_whole_tuples(forge: EnclaveForge) -> None:
    """PCR0 of one release with PCR2 of another is neither."""
    other = Release(name="2.0", pcrs={index: bytes([value[0] ^ 0x80]) * 48 for index, value in PCRS.items()})
    policy = accepting(RELEASE, other)
    assert forge.verify(forge.genuine(), policy).release == "1.0"
    mixed = forge.forged(lambda plan: plan.set("pcrs", PCRS | {2: other.pcrs[2]}))
    with pytest.raises(AttestationError) as caught:
        forge.verify(mixed, policy)
    assert caught.value.code == AttestationCode.PCR_MISMATCH
    assert caught.value.message == (
        "PCR2: expected 1212121212121212...12121212 of release 1.0, the nearest of 2 releases, "
        "found 9292929292929292...92929292"
    )


def test_a_mismatch_names_all_registers(forge: EnclaveForge) -> None:
    other = Release(name="2.0", pcrs={0: PCRS[0], 1: b"\x21" * 48, 2: b"\x22" * 48})
    with pytest.raises(AttestationError, match=r"^PCR1: .*found 1111.*\(also differs: PCR2\)$"):
        forge.verify(forge.genuine(), accepting(other))
