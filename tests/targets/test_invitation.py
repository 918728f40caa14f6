"""Invitations: what survives a mail, what does not, and the comparison that nothing replaces."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.attestation.policy_file import render_policy
from enclavectl.errors import AttestationError, UsageError
from enclavectl.targets.invitation import parse_invitation, render_invitation, require_pcr0, weaknesses
from enclavectl.targets.remotes import RemoteContent
from tests.in_process import PCRS, expect, new_root

ROOT = new_root()
CONTENT = RemoteContent(
    address="wss://gateway.test/v1",
    policy=render_policy(expect(ROOT).policy).encode(),
    root=ROOT.certificate_pem,
    ca=b"-----BEGIN CERTIFICATE-----",
    token=b"S3CRET\n",
    pin="sha256:" + "ab" * 32,
)
# What AWS's root signs, so that no root is beside it.
NITRO = CONTENT.policy.replace(b"accept: [simulated]", b"accept: [nitro]")
TEXT = render_invitation(CONTENT)


def parse(text: str) -> RemoteContent:
    return parse_invitation(text.encode(), source="mail")


def test_an_invitation_reads_back() -> None:
    assert parse(TEXT) == CONTENT
    bare = RemoteContent(address="tls:gateway.test:8443", policy=NITRO)
    assert parse(render_invitation(bare)) == bare


@pytest.mark.parametrize(
    "mailed",
    [
        f"Dear Ann,\n\nhere it is:\n\n{TEXT}\nRegards\n",
        TEXT.replace("\n", "\r\n"),
        "".join(f"> {line}\n" for line in TEXT.splitlines()),
        "".join(f"   {line}  \n" for line in TEXT.splitlines()),
    ],
)
def test_a_mail_around_it_does_no_harm(mailed: str) -> None:
    assert parse(mailed) == CONTENT


@given(st.integers(min_value=0, max_value=len(TEXT.strip()) - 1), st.sampled_from("A0+\n #\u00e4"))
def test_a_changed_character_is_found_or_means_nothing(index: int, other: str) -> None:
    found: RemoteContent | UsageError
    try:
        found = parse(TEXT[:index] + other + TEXT[index + 1 :])
    except UsageError as error:
        found = error
    assert found == CONTENT or (isinstance(found, UsageError) and found.code == "invitation")


@pytest.mark.parametrize("text", ["", TEXT + TEXT, TEXT[:-40], TEXT[40:], "\n".join(TEXT.splitlines()[::-1])])
def test_what_is_not_one_invitation(text: str) -> None:
    with pytest.raises(UsageError) as info:
        parse(text)
    assert info.value.code == "invitation"


def made(value: object) -> str:
    body = json.dumps(value).encode()
    return "\n".join(
        [
            "-----BEGIN ENCLAVECTL INVITATION-----",
            f"checksum: {sha256(body).hexdigest()[:16]}",
            base64.b64encode(body).decode(),
            "-----END ENCLAVECTL INVITATION-----",
        ]
    )


WHOLE = {
    "schema": "enclavectl.invitation/1",
    "address": "wss://gateway.test/v1",
    "policy": NITRO.decode(),
    "tls_pin": None,
    "root": None,
    "ca": None,
    "token": None,
}


@pytest.mark.parametrize(
    "change",
    [{"schema": "enclavectl.invitation/2"}, {"policy": 1}, {"policy": ""}, {"address": "x"}, {"more": 1}],
)
def test_a_right_checksum_alone_is_not_enough(change: dict[str, object]) -> None:
    assert parse(made(WHOLE)).token is None
    with pytest.raises(UsageError):
        parse(made({**WHOLE, **change}))


def test_pcr0_is_compared_with_what_the_reader_has() -> None:
    pcr0 = PCRS[0].hex()
    require_pcr0(CONTENT, [pcr0.upper()])
    require_pcr0(CONTENT, ["00" * 48, pcr0])
    with pytest.raises(AttestationError, match=f"found {pcr0}") as info:
        require_pcr0(CONTENT, ["00" * 48])
    assert (info.value.code, info.value.exit_code) == ("invitation-pcr0", 4)
    with pytest.raises(AttestationError):
        require_pcr0(CONTENT, [])
    with pytest.raises(UsageError, match="96 hex digits"):
        require_pcr0(CONTENT, [pcr0[:-2]])


def test_a_clients_key_is_never_in_one() -> None:
    content = RemoteContent(address=CONTENT.address, policy=NITRO, client_certificate=b"x", client_key=b"y")
    with pytest.raises(UsageError, match="its key is its owner's alone"):
        render_invitation(content)


def test_an_invitation_whose_terms_make_pcr0_worthless_says_so() -> None:
    """Who changes a mail can put in a root of their own, and sign for the right PCR0."""
    nitro = replace(CONTENT, policy=NITRO, root=None)
    emulated = replace(nitro, policy=nitro.policy.replace(b"[nitro]", b"[emulated]"))
    debug = replace(nitro, policy=nitro.policy.replace(b"allow_debug: false", b"allow_debug: true"))
    assert weaknesses(nitro, None) == []
    assert "simulated" in weaknesses(CONTENT, None)[0]
    assert "emulated" in weaknesses(emulated, None)[0]
    assert "debug mode" in weaknesses(debug, None)[0]
    assert weaknesses(CONTENT, ROOT.certificate_pem) == [], "the reader has this root from elsewhere"
    with pytest.raises(AttestationError) as info:
        weaknesses(CONTENT, new_root().certificate_pem)
    assert info.value.code == "invitation-root"
