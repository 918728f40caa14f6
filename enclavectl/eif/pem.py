"""PEM files: the blocks in one, and the kind of a file that was given by mistake.

Blocks are found as OpenSSL finds them (``PEM_read_bio``): a byte order mark, text and empty lines around them
are skipped, and blanks at the ends of lines do not count.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_BASE64 = re.compile(rb"\s*[A-Za-z0-9+/]{64}")
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY")
# In an array of integers in CBOR, these bytes precede integers above 23.
_CBOR_HEADS = b"\x18\x19\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class PemBlock:
    """One block: the label, such as ``CERTIFICATE``, and the joined lines of its content."""

    label: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PemKind:
    """The kind of a file, for a message, and the way to get a private key or a certificate from it."""

    what: str
    to_key: str
    to_certificate: str


_SWAPPED = "are --key and --cert swapped?"
_NO_KEY = "name the private key that belongs to the certificate"
_NO_CERTIFICATE = (
    "openssl req -new -x509 -key KEY.pem -sha384 -days 365 -out CERT.pem makes a certificate of the key"
)
_DECRYPT = "openssl pkey -in KEY.pem -out PLAIN.pem asks for the password and writes a plain key"
_OPENSSH = PemKind(
    what="a private key in OpenSSH's own format",
    to_key="ssh-keygen -p -N '' -m PEM -f COPY turns a copy of it into PEM",
    to_certificate=_SWAPPED,
)
_BY_LABEL = {
    "CERTIFICATE": PemKind(what="a certificate", to_key=_SWAPPED, to_certificate=_NO_CERTIFICATE),
    "TRUSTED CERTIFICATE": PemKind(
        what="a certificate in OpenSSL's own trusted form",
        to_key=_SWAPPED,
        to_certificate="openssl x509 -in CERT.pem -out PLAIN.pem writes a plain one",
    ),
    "CERTIFICATE REQUEST": PemKind(
        what="a certificate request (CSR)",
        to_key=_NO_KEY,
        to_certificate="openssl x509 -req -in REQUEST.csr -signkey KEY.pem -sha384 -days 365 -out CERT.pem "
        "signs it, or a certificate authority does",
    ),
    "PUBLIC KEY": PemKind(what="a public key", to_key=_NO_KEY, to_certificate=_NO_CERTIFICATE),
    "OPENSSH PRIVATE KEY": _OPENSSH,
    "ENCRYPTED PRIVATE KEY": PemKind(
        what="a private key with a password", to_key=_DECRYPT, to_certificate=_SWAPPED
    ),
}
# Asked about as a key only if it has no password and yet cannot be read.
_PRIVATE = PemKind(
    what="a private key",
    to_key="its content is damaged, or its label is that of another form; copy the file again",
    to_certificate=_SWAPPED,
)
_EMPTY = PemKind(what="an empty file", to_key=_NO_KEY, to_certificate=_NO_CERTIFICATE)
_PKCS12 = PemKind(
    what="a PKCS #12 store",
    to_key="openssl pkcs12 -in FILE -nocerts -nodes -out KEY.pem takes the key out of it",
    to_certificate="openssl pkcs12 -in FILE -clcerts -nokeys -out CERT.pem takes the certificate out of it",
)
_DER = PemKind(
    what="a binary (DER) file",
    to_key="openssl pkey -inform DER -in FILE -out KEY.pem, if it is a private key",
    to_certificate="openssl x509 -inform DER -in FILE -out CERT.pem, if it is a certificate",
)
_MAKE_KEY = "openssl ecparam -name secp384r1 -genkey -noout -out KEY.pem makes a new key"
_OTHER = PemKind(
    what="no PEM",
    to_key=_MAKE_KEY,
    to_certificate=_NO_CERTIFICATE,
)


def pem_blocks(data: bytes) -> Iterator[PemBlock]:
    """Yield each whole block in order; skip one without an end, or with another's beginning in it."""
    label: bytes | None = None
    lines: list[bytes] = []
    for line in data.removeprefix(_BOM).split(b"\n"):
        text = line.rstrip()
        begin = _BEGIN.fullmatch(text)
        if begin:
            label, lines = begin[1], []
        elif label is not None and text == b"-----END %s-----" % label:
            yield PemBlock(label=label.decode(), body=b"".join(lines))
            label = None
        else:
            lines.append(text)


def pem_kind(data: bytes) -> PemKind:
    """Return the kind of a file: by the label of its first block, else by its first bytes."""
    block = next(pem_blocks(data), None)
    if block is None:
        return _kind_of_other(data)
    label = block.label.removeprefix("NEW ").removeprefix("X509 ")
    if block.label.endswith("PRIVATE KEY") and b"ENCRYPTED" in block.body:
        label = "ENCRYPTED PRIVATE KEY"
    known = _BY_LABEL.get(label)
    if known is not None:
        return known
    if label.endswith("PRIVATE KEY"):
        return _PRIVATE
    what = f"a PEM file of the kind {label!r}"
    return PemKind(what=what, to_key=_OTHER.to_key, to_certificate=_NO_CERTIFICATE)


def _kind_of_other(data: bytes) -> PemKind:
    text = data.removeprefix(_BOM).strip()
    if not text:
        return _EMPTY
    if text.startswith((b"ssh-", b"ecdsa-sha2-", b"sk-")):
        what = "a public key of OpenSSH"
        return PemKind(what=what, to_key=_NO_KEY, to_certificate=_NO_CERTIFICATE)
    if (damage := _damaged_pem(data)) is not None:
        what, hint = damage
        return PemKind(what=what, to_key=hint, to_certificate=hint)
    if text.startswith(b"PuTTY-User-Key-File"):
        hint = "puttygen FILE -O private-openssh -o KEY.pem writes it as PEM"
        return PemKind(what="a private key of PuTTY", to_key=hint, to_certificate=_NO_CERTIFICATE)
    if data.startswith(b"\x30"):
        # A PFX begins with the version 3 (RFC 7292, 4), behind a header of two to six bytes.
        return _PKCS12 if b"\x02\x01\x03\x30" in data[:10] else _DER
    return _OTHER


def _damaged_pem(data: bytes) -> tuple[str, str] | None:
    """Return what happened to a file without a whole block that nevertheless has marks of PEM."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text", "save it as UTF-8 or ASCII: iconv -f UTF-16 -t ASCII FILE"
    if b"-BEGIN " not in data:
        head = base64.b64decode(data.strip()[:64], validate=False) if _BASE64.match(data) else b""
        return ("PEM in base64", "decode it: base64 -d FILE") if b"-----BEGIN " in head else None
    if b"\\n" in data:
        return "PEM with \\n in place of line ends", "write real line ends: printf '%b' \"$(cat FILE)\""
    if b"-END " not in data:
        return "PEM without its END line", "the file is cut short; copy it again"
    return (
        "PEM with damaged BEGIN or END lines",
        "each has five hyphens at both ends, and nothing before them",
    )


def holds_private_key(data: bytes) -> bool:
    """Return whether ``data`` has a private key in PEM, as it is or as an array of integers in CBOR."""
    return any(_PRIVATE_KEY.search(one) for one in (data, data.translate(None, _CBOR_HEADS)))
