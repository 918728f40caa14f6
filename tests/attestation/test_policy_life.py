"""Lives and revocations of releases: what a policy says at one time, and which contradictions it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import MODEL_PCR as PAYLOAD_MODEL_PCR
from enclavectl.attestation import (
    AttestationCode,
    LifeState,
    Policy,
    PolicyCode,
    Release,
    Revocation,
    Trust,
    examine_archived,
)
from enclavectl.attestation.release import EXPIRY_NOTICE
from enclavectl.errors import AttestationError, UsageError
from enclavectl.label import MODEL_PCR
from tests.forge import NOW, PCRS, RELEASE, EnclaveForge, accepting

DAY = timedelta(days=1)
NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)
MODEL = b"\x66" * 48
LATER = replace(RELEASE, name="2.0", pcrs={**PCRS, 0: b"\x20" * 48})


@dataclass(frozen=True)
class Claims:
    pcrs: dict[int, bytes]
    is_debug: bool = False


CLAIMS = Claims(dict(PCRS))


def life(begin: datetime | None = None, end: datetime | None = None) -> Release:
    return replace(RELEASE, not_before=begin, expires=end)


def revoked(release: Release = RELEASE, date: datetime = NOON) -> Revocation:
    return Revocation(date=date, reason="a leak", label=release.label)


def code_of(policy: Policy, at: datetime, claims: Claims = CLAIMS) -> str:
    with pytest.raises(AttestationError) as caught:
        policy.match_release(claims, at=at)
    assert caught.value.hint
    return caught.value.code


def unusable(make: object) -> UsageError:
    assert callable(make)
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.hint
    return caught.value


def test_the_register_of_the_model_is_the_payload_s() -> None:
    assert MODEL_PCR == PAYLOAD_MODEL_PCR


def test_a_release_without_a_life_is_valid_at_any_time() -> None:
    for at in (datetime(1970, 1, 1, tzinfo=UTC), NOON, datetime(9999, 12, 31, tzinfo=UTC)):
        assert accepting(RELEASE).match_release(CLAIMS, at=at) == RELEASE


def test_a_life_begins_with_its_first_moment_and_ends_before_its_last() -> None:
    policy = accepting(life(NOON, NOON + DAY))
    tick = timedelta(microseconds=1)
    assert code_of(policy, NOON - tick) == AttestationCode.RELEASE_NOT_YET_VALID
    assert policy.match_release(CLAIMS, at=NOON).name == "1.0"
    assert policy.match_release(CLAIMS, at=NOON + DAY - tick).name == "1.0"
    assert code_of(policy, NOON + DAY) == AttestationCode.RELEASE_EXPIRED


def test_the_time_may_be_given_in_any_zone_but_must_have_one() -> None:
    policy = accepting(life(end=NOON))
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    with pytest.raises(
        AttestationError, match=r"expired at 2027-01-31T12:00:00Z, judged at 2027-01-31T12:00"
    ):
        policy.match_release(CLAIMS, at=east)
    with pytest.raises(UsageError, match="expected a time with a time zone"):
        policy.match_release(CLAIMS, at=NOON.replace(tzinfo=None))


def test_two_releases_overlap_while_one_follows_the_other() -> None:
    policy = accepting(life(end=NOON + DAY), replace(LATER, not_before=NOON))
    next_claims = Claims(dict(LATER.pcrs))
    assert policy.match_release(CLAIMS, at=NOON).name == "1.0"
    assert policy.match_release(next_claims, at=NOON).name == "2.0"
    assert code_of(policy, NOON + DAY) == AttestationCode.RELEASE_EXPIRED
    assert policy.match_release(next_claims, at=NOON + DAY).name == "2.0"


def test_a_mismatch_is_named_before_any_life() -> None:
    policy = accepting(life(end=NOON - DAY))
    assert code_of(policy, NOON, Claims({**PCRS, 2: b"\xee" * 48})) == AttestationCode.PCR_MISMATCH


def test_of_two_matching_releases_the_one_that_pins_more_counts() -> None:
    with_model = Release(name="with model", pcrs={**PCRS, MODEL_PCR: MODEL})
    claims = Claims({**PCRS, MODEL_PCR: MODEL})
    assert accepting(RELEASE, with_model).match_release(claims, at=NOON) == with_model
    assert accepting(RELEASE, with_model).match_release(CLAIMS, at=NOON) == RELEASE
    ended = replace(with_model, expires=NOON)
    assert accepting(ended, RELEASE).match_release(claims, at=NOON) == RELEASE


def test_a_session_is_judged_now_and_an_archived_document_at_its_own_time(forge: EnclaveForge) -> None:
    document = forge.genuine()
    end = NOW.replace(microsecond=0) + timedelta(minutes=1)
    policy = replace(accepting(life(end=end)), clock_skew=timedelta(0))
    assert examine_archived(document, policy, root=forge.root).release_expires == end
    assert forge.verify(document, policy, now=end - timedelta(seconds=1)).release_expires == end
    with pytest.raises(AttestationError) as caught:
        forge.verify(document, policy, now=end)
    assert caught.value.code == AttestationCode.RELEASE_EXPIRED
    early = accepting(life(begin=end))
    with pytest.raises(AttestationError) as caught:
        examine_archived(document, early, root=forge.root)
    assert caught.value.code == AttestationCode.RELEASE_NOT_YET_VALID


def test_a_revocation_refuses_documents_from_before_its_date(forge: EnclaveForge) -> None:
    policy = replace(accepting(life(end=NOON)), revoked=(revoked(),))
    assert code_of(policy, NOON - 900 * DAY) == AttestationCode.RELEASE_REVOKED
    with pytest.raises(AttestationError, match="is revoked, dated 2027-01-31T12:00:00Z: a leak") as caught:
        examine_archived(forge.genuine(), policy, root=forge.root)
    assert caught.value.code == AttestationCode.RELEASE_REVOKED


def test_a_revoked_tuple_beats_a_release_that_pins_less() -> None:
    entry = Revocation(date=NOON, reason="bad weights", pcrs={MODEL_PCR: MODEL})
    policy = replace(accepting(RELEASE), revoked=(entry,))
    assert policy.match_release(CLAIMS, at=NOON) == RELEASE
    assert code_of(policy, NOON, Claims({**PCRS, MODEL_PCR: MODEL})) == AttestationCode.RELEASE_REVOKED


def test_a_label_without_a_model_revokes_that_code_with_any_model() -> None:
    policy = replace(accepting(LATER), revoked=(revoked(),))
    assert code_of(policy, NOON, Claims({**PCRS, MODEL_PCR: MODEL})) == AttestationCode.RELEASE_REVOKED
    with_model = Release(name="m", pcrs={**PCRS, MODEL_PCR: MODEL})
    policy = replace(accepting(RELEASE), revoked=(revoked(with_model),))
    assert policy.match_release(CLAIMS, at=NOON) == RELEASE
    other = Claims({**PCRS, MODEL_PCR: b"\x67" * 48})
    assert policy.match_release(other, at=NOON) == RELEASE
    assert code_of(policy, NOON, Claims({**PCRS, MODEL_PCR: MODEL})) == AttestationCode.RELEASE_REVOKED


def test_a_document_without_the_image_s_registers_has_no_label() -> None:
    assert not revoked().matches({1: PCRS[1], 2: PCRS[2], MODEL_PCR: MODEL})


def test_an_instance_that_is_revoked_is_refused_in_debug_mode_as_well() -> None:
    entry = Revocation(date=NOON, reason="stolen", pcrs={4: b"\4" * 48})
    policy = replace(accepting(unsafe_allow_debug=True), revoked=(entry,))
    zeros = dict.fromkeys((0, 1, 2), bytes(48))
    policy.check_debug(Claims({**zeros, 4: b"\5" * 48}, is_debug=True))
    with pytest.raises(AttestationError) as caught:
        policy.check_debug(Claims({**zeros, 4: b"\4" * 48}, is_debug=True))
    assert caught.value.code == AttestationCode.RELEASE_REVOKED


def test_the_label_is_over_code_and_model_and_nothing_else() -> None:
    # 48 bytes each of 0x10, 0x11 and 0x12, through sha256sum.
    assert RELEASE.label == "a0f13ac0df12b1a1"
    assert replace(RELEASE, pcrs={**PCRS, 3: MODEL, 4: MODEL, 8: MODEL}).label == RELEASE.label
    assert replace(RELEASE, pcrs={**PCRS, MODEL_PCR: MODEL}).label != RELEASE.label
    assert LATER.label != RELEASE.label


def test_the_state_of_a_release_knows_revocations() -> None:
    ended = life(end=NOON)
    policy = replace(accepting(ended, LATER), revoked=(revoked(),))
    assert policy.state_of(ended, NOON - DAY) is LifeState.REVOKED
    assert policy.state_of(LATER, NOON) is LifeState.VALID


CONTRADICTIONS = {
    "it ends before it begins": lambda: life(NOON, NOON - DAY),
    "valid and revoked": lambda: replace(accepting(RELEASE), revoked=(revoked(),)),
    "valid after it was revoked": lambda: replace(accepting(life(end=NOON + DAY)), revoked=(revoked(),)),
    "valid and revoked by a tuple": lambda: replace(
        accepting(RELEASE), revoked=(Revocation(date=NOON, reason="r", pcrs={8: PCRS[8]}),)
    ),
    "the same registers for two times": lambda: accepting(life(end=NOON), replace(RELEASE, name="again")),
    "debug signs": lambda: replace(accepting(RELEASE), accept=frozenset({Trust.DEBUG})),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_refused(name: str) -> None:
    assert unusable(CONTRADICTIONS[name]).code == PolicyCode.CONTRADICTION


def test_what_only_looks_like_a_contradiction_is_taken() -> None:
    replace(accepting(life(end=NOON)), revoked=(revoked(),))
    replace(accepting(life(NOON, NOON)), revoked=(revoked(date=NOON - DAY),))  # never valid
    accepting(life(end=NOON), replace(RELEASE, name="again", expires=NOON))  # two enclaves of one image
    accepting(life(end=NOON), Release(name="more", pcrs={**PCRS, MODEL_PCR: MODEL}))


def entry(**fields: object) -> Revocation:
    return Revocation(**{"date": NOON, "reason": "r", **fields})  # type: ignore[arg-type]  # wrong on purpose


UNUSABLE = {
    "no signer": (lambda: replace(accepting(RELEASE), accept=frozenset()), PolicyCode.EMPTY),
    "no release": (accepting, PolicyCode.EMPTY),
    "a tuple of nothing": (lambda: entry(pcrs={}), PolicyCode.EMPTY),
    "zeros": (lambda: replace(RELEASE, pcrs={**PCRS, 8: bytes(48)}), PolicyCode.ZEROS),
    "revoked zeros": (lambda: entry(pcrs={3: bytes(48)}), PolicyCode.ZEROS),
    "no PCR2": (lambda: replace(RELEASE, pcrs={0: PCRS[0], 1: PCRS[1]}), PolicyCode.PCRS),
    "PCR16 alone": (lambda: replace(RELEASE, pcrs={MODEL_PCR: MODEL}), PolicyCode.MODEL_ALONE),
    "PCR16 and PCR0": (lambda: replace(RELEASE, pcrs={0: PCRS[0], MODEL_PCR: MODEL}), PolicyCode.MODEL_ALONE),
    "a local time": (lambda: life(end=NOON.replace(tzinfo=None)), PolicyCode.FORMAT),
    "half a second": (lambda: life(end=NOON + timedelta(milliseconds=500)), PolicyCode.FORMAT),
    "another zone": (lambda: life(NOON.astimezone(timezone(DAY / 24))), PolicyCode.FORMAT),
    "long notes": (lambda: replace(RELEASE, notes="a" * 401), PolicyCode.FORMAT),
    "an escape in notes": (lambda: replace(RELEASE, notes="\x1b[2J"), PolicyCode.FORMAT),
    "label and tuple": (lambda: entry(label=RELEASE.label, pcrs=dict(PCRS)), PolicyCode.FORMAT),
    "neither": (entry, PolicyCode.FORMAT),
    "a long label": (lambda: entry(label=RELEASE.label * 4), PolicyCode.FORMAT),
    "an upper-case label": (lambda: entry(label="ABCDEF0123456789"), PolicyCode.FORMAT),
    "nine registers": (lambda: entry(pcrs=dict.fromkeys(range(9), MODEL)), PolicyCode.FORMAT),
    "no reason": (lambda: entry(label=RELEASE.label, reason=""), PolicyCode.FORMAT),
    "a reason on two lines": (lambda: entry(label=RELEASE.label, reason="a\nb"), PolicyCode.FORMAT),
    "65 revocations": (
        lambda: replace(
            accepting(LATER),
            revoked=tuple(entry(label=f"{number:016x}") for number in range(65)),
        ),
        PolicyCode.FORMAT,
    ),
    "revoked twice": (
        lambda: replace(accepting(LATER), revoked=(revoked(), revoked(date=NOON + DAY))),
        PolicyCode.FORMAT,
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_has_a_code_and_a_hint(name: str) -> None:
    make, code = UNUSABLE[name]
    assert unusable(make).code == code


def test_every_code_of_a_policy_is_tested() -> None:
    """The code of another version is that of a file: test_policy.py has it."""
    tested = {code for _, code in UNUSABLE.values()} | {PolicyCode.CONTRADICTION, PolicyCode.VERSION}
    assert tested == set(PolicyCode)


def test_a_note_comes_with_the_last_14_days() -> None:
    policy = accepting(life(end=NOON))
    assert policy.expiry_notes(NOON - EXPIRY_NOTICE - timedelta(seconds=1)) == ()
    [note] = policy.expiry_notes(NOON - EXPIRY_NOTICE)
    assert (note.release, note.expires, note.left) == ("1.0", NOON, EXPIRY_NOTICE)
    assert note.message == "release 1.0 expires in 14 days, at 2027-01-31T12:00:00Z"
    assert policy.expiry_notes(NOON) == ()


@pytest.mark.parametrize(
    ("left", "words"),
    [(2 * DAY, "in 2 days"), (DAY, "tomorrow"), (timedelta(seconds=1), "within a day")],
)
def test_a_note_says_how_long(left: timedelta, words: str) -> None:
    [note] = accepting(life(end=NOON)).expiry_notes(NOON - left)
    assert f"expires {words}," in note.message


def test_no_note_for_what_is_not_valid_or_never_expires() -> None:
    ended = replace(accepting(life(end=NOON), LATER), revoked=(revoked(),))
    assert ended.expiry_notes(NOON - DAY) == ()
    assert accepting(life(NOON, NOON + DAY)).expiry_notes(NOON - DAY) == ()


YEAR_S = 366 * 24 * 3600
moments = st.integers(-YEAR_S, YEAR_S).map(lambda seconds: NOON + timedelta(seconds=seconds))


@given(st.none() | moments, st.none() | moments, moments)
def test_a_life_is_an_interval_of_time(begin: datetime | None, end: datetime | None, at: datetime) -> None:
    if begin is not None and end is not None and begin > end:
        begin, end = end, begin
    policy = accepting(life(begin, end))
    if begin is not None and at < begin:
        assert code_of(policy, at) == AttestationCode.RELEASE_NOT_YET_VALID
    elif end is not None and at >= end:
        assert code_of(policy, at) == AttestationCode.RELEASE_EXPIRED
    else:
        assert policy.match_release(CLAIMS, at=at) == policy.releases[0]
