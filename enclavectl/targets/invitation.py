"""An invitation: what an operator hands to a data owner, as one block of text for a mail.

It carries the address, the releases as a policy, and the token. Whoever can change the mail can change all
of it, so the reader compares the PCRs with those that the image's builder published. The checksum finds
accidents only.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from hashlib import sha256

from enclavectl.errors import AttestationError, UsageError
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.targets.remotes import RemoteContent

INVITATION_SCHEMA = "enclavectl.invitation/1"
# A policy of 64 releases with every register has 210 KiB, a CA bundle 250 KiB; base64 adds a third.
MAX_INVITATION_BYTES = 1024 * 1024
_BEGIN, _END = "-----BEGIN ENCLAVECTL INVITATION-----", "-----END ENCLAVECTL INVITATION-----"
_CHECKSUM = re.compile(r"checksum: ([0-9a-f]{16})")
# What mail programs put before the lines of a mail that is answered or forwarded.
_QUOTED = re.compile(r"^(?:\s*>)+")
_LINE = 76  # characters, as MIME's base64 has them
_PCR0 = re.compile(r"[0-9a-f]{96}")
_PARTS = ("root", "ca", "token")


def render_invitation(content: RemoteContent) -> str:
    """Write the block. It holds the token: whoever reads it may connect.

    Raises:
        UsageError: a client's key is in it, which is its owner's alone.
    """
    if content.client_key is not None or content.client_certificate is not None:
        raise UsageError("invitation: expected no client certificate: its key is its owner's alone")
    value: dict[str, object] = {
        "schema": INVITATION_SCHEMA,
        "address": content.address,
        "policy": content.policy.decode(),
        "tls_pin": content.pin,
    }
    for word in _PARTS:
        data = getattr(content, word)
        value[word] = None if data is None else data.decode()
    body = json.dumps(value).encode()
    text = base64.b64encode(body).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join([_BEGIN, f"checksum: {_checksum(body)}", "", *lines, _END, ""])


def parse_invitation(data: bytes, *, source: str) -> RemoteContent:
    """Read the one block in a text; what is around it, as in a mail, does not count.

    Raises:
        UsageError: there is none or more than one, it was changed, or a part cannot be used.
    """
    lines = [_QUOTED.sub("", line).strip() for line in data.decode(errors="replace").splitlines()]
    if lines.count(_BEGIN) != 1 or lines.count(_END) != 1 or lines.index(_BEGIN) > lines.index(_END):
        raise UsageError(
            f"{source}: expected one invitation, from {_BEGIN} to {_END}, found something else",
            hint="enclavectl remote invite writes it; copy all of it",
            code="invitation",
        )
    inside = [line for line in lines[lines.index(_BEGIN) + 1 : lines.index(_END)] if line]
    checksum = _CHECKSUM.fullmatch(inside[0]) if inside else None
    try:
        body = base64.b64decode("".join(inside[1:]), validate=True)
    except ValueError:  # also of characters that are not ASCII
        body = b""
    if checksum is None or _checksum(body) != checksum[1]:
        raise UsageError(
            f"{source}: expected an invitation as it was written, found that it was changed or cut",
            hint="ask for it again, as a file",
            code="invitation",
        )
    try:
        return _content(JsonObject.parse(body, limit=MAX_INVITATION_BYTES))
    except JsonError as exc:
        raise UsageError(
            f"{source}: expected an invitation of this release ({exc})", code="invitation"
        ) from exc


def require_pcr0(content: RemoteContent, expected: Sequence[str]) -> None:
    """Check that each release has one of the PCR0 values that the reader got from the image's builder.

    Raises:
        UsageError: a value is no PCR.
        AttestationError: a release has another.
    """
    for value in expected:
        if _PCR0.fullmatch(value.lower()) is None:
            raise UsageError(f"--expect-pcr0: expected 96 hex digits, found {value!r:.100}")
    known = {value.lower() for value in expected}
    for release in content.read_policy().releases:
        found = release.pcrs[0].hex()
        if found not in known:
            raise AttestationError(
                f"invitation: release {release.name}: expected PCR0 {_either(expected)}, found {found}",
                hint="do not use it; ask whoever built the image, not whoever sent the invitation",
                code="invitation-pcr0",
            )


def weaknesses(content: RemoteContent, own_root: bytes | None) -> list[str]:
    """Return why PCR0 does not decide: what lets whoever changed the invitation run an enclave that passes.

    ``own_root`` is the reader's copy of the root (PEM), from elsewhere.

    Raises:
        UsageError: ``own_root`` is no certificate.
        AttestationError: the invitation has another root.
    """
    # Imported here: an invitation is rarely read.
    from enclavectl.attestation import Trust, TrustRoot

    root, found = content.read_root(), []
    if own_root is not None:
        own = TrustRoot.from_operator(own_root, file="--root")
        if own.fingerprint != root.fingerprint:
            raise AttestationError(
                f"invitation: expected the root of --root, {own.fingerprint}, found {root.fingerprint}",
                hint="do not use it; ask whoever runs the enclave, not whoever sent the invitation",
                code="invitation-root",
            )
    elif root.trust is not Trust.NITRO:
        found.append(f"its evidence is {root.trust}: AWS signs nothing, and others can sign any PCR0")
    if content.read_policy().unsafe_allow_debug:
        found.append("enclaves in debug mode pass, whose PCR0 is zero and whose code nothing measures")
    return found


def _either(expected: Sequence[str]) -> str:
    return " or ".join(value.lower() for value in expected) or "of the image's builder"


def _content(value: JsonObject) -> RemoteContent:
    value.require_schema(INVITATION_SCHEMA)
    value.require_keys({"schema", "address", "policy", "tls_pin", *_PARTS})
    parts = {word: value.optional_string(word) for word in _PARTS}
    return RemoteContent(
        address=value.string("address"),
        policy=value.string("policy").encode(),
        pin=value.optional_string("tls_pin"),
        **{word: None if text is None else text.encode() for word, text in parts.items()},
    )


def _checksum(body: bytes) -> str:
    return sha256(body).hexdigest()[:16]
