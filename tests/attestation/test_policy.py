from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.attestation import Policy, Release, Trust, parse_policy, render_policy
from enclavectl.errors import UsageError
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
    policy = Policy(
        accept=NITRO, releases=tuple(Release(name=str(number), pcrs=pcrs) for number in range(64))
    )
    assert parse_policy(render_policy(policy), source="policy.yaml") == policy


REFUSED = {
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
    TEXT.replace("60", "99999"): "policy.yaml: policy: max_age",
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
    "#" * 1_100_000: "expected at most 1048576 bytes",
}


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


registers = st.binary(min_size=48, max_size=48).filter(any)
names = st.text(min_size=1, max_size=100).filter(str.isprintable)
releases = st.builds(
    lambda name, first, more: Release(name=name, pcrs=dict(enumerate(first)) | more),
    names,
    st.lists(registers, min_size=3, max_size=3),
    st.dictionaries(st.integers(3, 31), registers, max_size=4),
)
policies = st.builds(
    lambda accept, chosen, age, skew: Policy(
        accept=accept,
        releases=tuple(chosen),
        max_age=timedelta(seconds=age),
        clock_skew=timedelta(seconds=skew),
        unsafe_allow_debug=not chosen,
    ),
    st.sets(st.sampled_from([Trust.NITRO, Trust.EMULATED, Trust.SIMULATED]), min_size=1).map(frozenset),
    st.lists(releases, max_size=3, unique_by=lambda release: release.name),
    st.integers(1, 3 * 3600),
    st.integers(0, 600),
)


@given(policies)
def test_rendered_policies_read_back(policy: Policy) -> None:
    assert parse_policy(render_policy(policy), source="rendered") == policy


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_policy(text, source="noise")
