from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclavectl.attestation import (
    Policy,
    PolicyCode,
    Release,
    Revocation,
    Trust,
    parse_policy,
    render_policy,
)
from enclavectl.attestation.policy_file import MAX_POLICY_BYTES, decode_policy
from enclavectl.errors import UsageError
from tests.attestation.policies import policies_of
from tests.forge import PCRS, RELEASE

NITRO = frozenset({Trust.NITRO})
HEX = {index: value.hex() for index, value in PCRS.items()}
TEXT = f"""\
# What the hospital reviewed on 4 May.
schema: enclavectl.policy/2
accept: [nitro]
max_age_s: 60
releases:
  - name: "1.0"
    pcrs:
      PCR0: {HEX[0]}
      PCR1: "{HEX[1].upper()}"
      PCR2: '{HEX[2]}'
      PCR8: {HEX[8]}
"""


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_release_needs_the_image_s_three_registers(missing: int) -> None:
    with pytest.raises(UsageError, match=f"PCR{missing} is missing"):
        Release(name="1", pcrs={index: value for index, value in PCRS.items() if index != missing})


@pytest.mark.parametrize("index", [0, 1, 2, 8])
def test_a_release_cannot_pin_zeros(index: int) -> None:
    with pytest.raises(UsageError, match=f"PCR{index} is all zero"):
        Release(name="1", pcrs=PCRS | {index: bytes(48)})


@pytest.mark.parametrize("value", [b"", bytes(32), b"\1" * 47, b"\1" * 49, "1" * 48])
def test_a_register_has_48_bytes(value: bytes) -> None:
    with pytest.raises(UsageError, match="PCR1: expected 48 bytes"):
        Release(name="1", pcrs=PCRS | {1: value})


@pytest.mark.parametrize("index", [-1, 32])
def test_a_register_has_an_index_below_32(index: int) -> None:
    with pytest.raises(UsageError, match="expected an index from 0 to 31"):
        Release(name="1", pcrs=PCRS | {index: PCRS[1]})


def test_true_is_no_index() -> None:
    with pytest.raises(UsageError, match="PCRTrue: expected an index"):
        Release(name="1", pcrs={0: PCRS[0], True: PCRS[1], 2: PCRS[2]})


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\x1b[2J"])
def test_a_release_has_a_printable_name(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        Release(name=name, pcrs=PCRS)


def test_a_release_keeps_its_own_copy() -> None:
    pcrs = dict(PCRS)
    release = Release(name="1", pcrs=pcrs)
    pcrs[0] = b"\xee" * 48
    assert release.pcrs[0] == PCRS[0]


def test_an_empty_policy_cannot_be_made() -> None:
    with pytest.raises(UsageError, match="no release is named"):
        Policy(accept=NITRO, releases=())
    with pytest.raises(UsageError, match="accept is empty"):
        Policy(accept=frozenset(), releases=(RELEASE,))


def test_debug_is_no_signer() -> None:
    with pytest.raises(UsageError) as caught:
        Policy(accept=frozenset({Trust.NITRO, Trust.DEBUG}), releases=(RELEASE,))
    assert "unsafe_allow_debug" in str(caught.value.hint)


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=3, seconds=1)])
def test_max_age_is_bounded(age: timedelta) -> None:
    with pytest.raises(UsageError, match="max_age"):
        Policy(accept=NITRO, releases=(RELEASE,), max_age=age)


@pytest.mark.parametrize("skew", [timedelta(seconds=-1), timedelta(minutes=10, seconds=1)])
def test_clock_skew_is_bounded(skew: timedelta) -> None:
    with pytest.raises(UsageError, match="clock_skew"):
        Policy(accept=NITRO, releases=(RELEASE,), clock_skew=skew)


def test_release_names_differ_and_are_bounded() -> None:
    for releases in ((RELEASE, RELEASE), tuple(Release(name=str(n), pcrs=PCRS) for n in range(65))):
        with pytest.raises(UsageError, match="64 releases with different names"):
            Policy(accept=NITRO, releases=releases)


def test_policy_file() -> None:
    policy = parse_policy(TEXT, source="policy.yaml")
    assert policy == Policy(accept=NITRO, releases=(RELEASE,), max_age=timedelta(minutes=1))


def test_the_largest_policy_is_within_the_bound_of_values() -> None:
    pcrs = {index: bytes([index + 1]) * 48 for index in range(32)}
    when = datetime(2027, 1, 31, 12, tzinfo=UTC)
    policy = Policy(
        accept=NITRO,
        releases=tuple(
            Release(
                name=f"{number:02}" + "\U0001f9ea" * 98,
                pcrs=pcrs | {0: bytes([number + 1]) * 48},
                not_before=when,
                expires=when,
                notes="\U0001f9ea" * 399 + "\n",
            )
            for number in range(64)
        ),
        revoked=tuple(
            Revocation(
                name="\U0001f9ea" * 100,
                date=when,
                reason="\U0001f9ea" * 200,
                pcrs={index: bytes([100 + n]) * 48 for index in range(24, 32)},
            )
            for n in range(64)
        ),
    )
    text = render_policy(policy)
    assert len(text.encode()) <= MAX_POLICY_BYTES
    assert parse_policy(text, source="policy.yaml") == policy


LIFE = """\
schema: enclavectl.policy/2
accept: [nitro]
revoked:
  - name: '0.9'
    date: 2027-01-31
    reason: CVE-2027-1234, see ticket 7
    label: 0123456789012345
  - {date: 2027-01-31t12:00:00z, reason: bad weights, pcrs: {PCR16: REGISTER}}
releases:
  - name: 1.0
    not_before: 2026-12-24
    expires: 2027-06-30T12:30:00Z
    notes: |
      Reviewed by Ada.
      Built from v1.0.
    pcrs: {PCR0: REGISTER, PCR1: REGISTER, PCR2: REGISTER}
""".replace("REGISTER", "ab" * 48)


def test_a_policy_file_with_lives_and_revocations() -> None:
    policy = parse_policy(LIFE, source="policy.yaml")
    pcrs = dict.fromkeys((0, 1, 2), b"\xab" * 48)
    day = datetime(2027, 1, 31, tzinfo=UTC)
    assert policy == Policy(
        accept=NITRO,
        releases=(
            Release(
                name="1.0",
                pcrs=pcrs,
                not_before=datetime(2026, 12, 24, tzinfo=UTC),
                expires=datetime(2027, 6, 30, 12, 30, tzinfo=UTC),
                notes="Reviewed by Ada.\nBuilt from v1.0.\n",
            ),
        ),
        revoked=(
            Revocation(name="0.9", date=day, reason="CVE-2027-1234, see ticket 7", label="0123456789012345"),
            Revocation(date=day.replace(hour=12), reason="bad weights", pcrs={16: b"\xab" * 48}),
        ),
    )


CODES = {
    PolicyCode.VERSION: LIFE.replace("policy/2", "policy/3") + "unknown: 1\n",
    PolicyCode.FORMAT: LIFE + "unknown: 1\n",
    PolicyCode.EMPTY: LIFE[: LIFE.index("releases")],
    PolicyCode.ZEROS: LIFE.replace(f"PCR2: {'ab' * 48}", f"PCR2: {'00' * 48}"),
    PolicyCode.PCRS: LIFE.replace(f", PCR2: {'ab' * 48}", ""),
    PolicyCode.MODEL_ALONE: LIFE.replace("{PCR0: ", "{PCR16: "),
    PolicyCode.CONTRADICTION: LIFE.replace("2026-12-24", "2028-12-24"),
}


@pytest.mark.parametrize("code", PolicyCode)
def test_each_defect_of_a_file_has_its_code(code: PolicyCode) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(CODES[code], source="policy.yaml")
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize(
    ("version", "advice"), [("1", "write schema: enclavectl.policy/2"), ("3", "Use an enclavectl that reads")]
)
def test_another_version_is_refused_by_name_with_what_to_do(version: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(f"whatever: it says\nschema: enclavectl.policy/{version}\n", source="p.yaml")
    assert caught.value.message == (
        f"p.yaml:2: schema: expected enclavectl.policy/2, found enclavectl.policy/{version}"
    )
    assert advice in str(caught.value.hint)


def test_a_file_of_version_1_is_one_of_version_2_once_it_says_so() -> None:
    parse_policy(TEXT, source="policy.yaml")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"^p\.yaml:2: expected UTF-8 text, found byte 0xe9$"):
        decode_policy(b"# a\n# caf\xe9\n", source="p.yaml")
    assert parse_policy(decode_policy(LIFE.encode("utf-8-sig"), source="p.yaml"), source="p.yaml")


REFUSED = {
    LIFE.replace("2026-12-24", "24.12.2026"): "policy.yaml:11: not_before: expected a date (2027-01-31) or a",
    LIFE.replace("12:30:00Z", "12:30:00"): "policy.yaml:12: expires: expected a date",
    LIFE.replace("12:30:00Z", "12:30:00+01:00"): "policy.yaml:12: expires: expected a date",
    LIFE.replace("12:30:00Z", "12:30:00.5Z"): "policy.yaml:12: expires: expected a date",
    LIFE.replace(
        "06-30T", "02-30T"
    ): "policy.yaml:12: expires: expected a date (2027-01-31) or a time in UTC",
    LIFE.replace("12:30:00Z", "12:30:60Z"): "there is no such time, found '2027-06-30T12:30:60Z'",
    LIFE.replace("2026-12-24", "٢٠٢٦-12-24"): "policy.yaml:11: not_before: expected a date",
    LIFE.replace(
        "2026-12-24", "2028-12-24"
    ): "policy.yaml:10: release 1.0: not_before (2028-12-24T00:00:00Z)",
    LIFE.replace("0123456789012345", "one"): "policy.yaml:4: revoked 0.9: label: expected 16 lower-case hex",
    LIFE.replace(
        "    label: 0123456789012345\n", ""
    ): "policy.yaml:4: revoked 0.9: expected one of label and",
    LIFE.replace("reason: bad weights, ", ""): "policy.yaml:8: missing key reason",
    LIFE.replace("PCR16: " + "ab" * 48, ""): "policy.yaml:8: revoked tuple: no register is named",
    LIFE.replace(
        "PCR16: ", "PCR2: "
    ): "policy.yaml: policy: release 1.0 is revoked since 2027-01-31T12:00:00Z",
    "accept: [nitro]\n": "policy.yaml:1: missing key schema",
    TEXT.replace(
        "policy/2", "policy/1"
    ): "policy.yaml:2: schema: expected enclavectl.policy/2, found enclavectl.policy/1",
    TEXT.replace("releases:", "release:"): "policy.yaml:5: unknown key 'release'",
    TEXT.replace("PCR8", "PCR32"): "policy.yaml:11: unknown key 'PCR32'",
    TEXT.replace("PCR8", "8"): "policy.yaml:11: unknown key '8'",
    TEXT.replace("PCR8", "PCR0"): "policy.yaml:11: the key PCR0 stands here twice",
    TEXT.replace("[nitro]", "[nitro, debug]"): "policy.yaml: policy: accept says who may sign",
    TEXT.replace("[nitro]", "[aws]"): "policy.yaml:3: accept: expected one of nitro",
    TEXT.replace("[nitro]", "nitro"): "policy.yaml:3: expected a list",
    TEXT.replace("[nitro]", "[]"): "policy.yaml: policy: accept is empty",
    TEXT.replace("60", "1e3"): "policy.yaml:4: expected a whole number of seconds, found '1e3'",
    TEXT.replace("60", "-1"): "policy.yaml:4: expected a whole number",
    TEXT.replace("60", "٣"): "policy.yaml:4: expected a whole number",
    TEXT.replace("60", "99999"): "policy.yaml: policy: max_age: expected 1 s to 10800 s, found 99999 s",
    TEXT.replace("60", "[60]"): "policy.yaml:4: expected a single value",
    TEXT.replace(HEX[8], HEX[8][2:]): "policy.yaml:11: expected 96 hex digits",
    TEXT.replace(HEX[8], "0" * 96): "policy.yaml:6: release 1.0: PCR8 is all zero",
    TEXT.replace(f"      PCR0: {HEX[0]}\n", ""): "policy.yaml:6: release 1.0: PCR0 is missing",
    TEXT[: TEXT.index("releases")]: "policy.yaml: policy: no release is named",
    TEXT + "unsafe_allow_debug: yes\n": "policy.yaml:12: expected true or false, found 'yes'",
    TEXT.replace("[nitro]", "&a [nitro]") + "max_age_s: *a\n": "anchors and aliases",
    TEXT.replace("PCR8: ", "PCR8: &a ").replace(f'"{HEX[1].upper()}"', "*a"): "anchors and aliases",
    TEXT.replace("PCR0: ", "PCR0: &a ").replace(f'"{HEX[1].upper()}"', "*a"): "anchors and aliases",
    TEXT.replace("    pcrs:\n", "    pcrs:\n      <<: {}\n"): "unknown key '<<'",
    TEXT.replace("accept:", "? [a]\n: b\naccept:"): "policy.yaml:3: expected a single value",
    TEXT.replace("[nitro]", "!!set [nitro]"): "policy.yaml:3: tags are not accepted",
    "[" * 100_000: "policy.yaml:1: expected at most 16 levels",
    f"[{'a,' * 131_000}]": "policy.yaml:1: expected at most 10,000 values, found more",
    f"accept: [{'a,' * 131_000}]": "policy.yaml:1: expected at most 10,000 values, found more",
    "- a\n" * 65_000: "policy.yaml:10000: expected at most 10,000 values, found more",
    "": "expected a mapping",
    "a: b: c": "policy.yaml:1: mapping values are not allowed",
    "\0": "policy.yaml:1: cannot be read as YAML",
    "--- a\n--- b\n": "policy.yaml:2: expected a single document",
    "#" * 600_000: "expected at most 524288 bytes",
}


@pytest.mark.parametrize("hidden", ["\r", "\x85", "\u2028", "\u2029", "\u202e", "\u2066"], ids=ascii)
def test_no_character_hides_a_setting_behind_a_comment(hidden: str) -> None:
    """PyYAML begins a line behind the first four, where an editor goes on with the comment."""
    comment = f"# As the hospital approved it.{hidden}unsafe_allow_debug: true\n"
    with pytest.raises(UsageError, match=rf"^policy.yaml:3: .*found U\+{ord(hidden):04X}") as caught:
        parse_policy(TEXT.replace("accept:", f"{comment}accept:"), source="policy.yaml")
    assert caught.value.code == PolicyCode.FORMAT


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_refused_policy_files(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(text, source="policy.yaml")
    assert REFUSED[text] in caught.value.message
    assert caught.value.message.startswith("policy.yaml:")


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(TEXT.replace("max_age_s", "max_age"), source="policy.yaml")
    assert caught.value.hint == "The nearest known key is max_age_s."


@given(policies_of(at_least=0))
def test_rendered_policies_read_back(policy: Policy) -> None:
    assert parse_policy(render_policy(policy), source="rendered") == policy


@settings(max_examples=25)
@given(policies_of(at_least=1), st.data())
def test_a_file_that_was_cut_short_never_says_the_same_and_lacks_no_revocation(
    policy: Policy, data: st.DataObject
) -> None:
    text = render_policy(policy)
    cut = text[: data.draw(st.integers(0, len(text.rstrip()) - 2))]
    for part in (cut, f"{text}and more", f"{text}---\n{text}"):
        try:
            found = parse_policy(part, source="part")
        except UsageError:
            continue
        assert part == cut
        assert found != policy
        assert found.revoked == policy.revoked


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_policy(text, source="noise")
