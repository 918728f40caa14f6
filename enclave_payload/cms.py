"""The answer of AWS KMS to an enclave: CMS EnvelopedData (RFC 5652), read strictly.

KMS writes BER with indefinite lengths. There is no signature in it: whoever knows the recipient's public key
can write one. So what it opens to is only a candidate, which the sealed file's check decides about. Every
failure is one error: CBC without a MAC must not tell its padding apart from anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.padding import PKCS7

# CiphertextForRecipient has 1 to 6,144 bytes: botocore's model of KMS, 2014-11-01.
MAX_CMS_BYTES = 6144
_MAX_DEPTH = 12
_END = b"\x00\x00"
_OID, _OCTETS, _SEQUENCE = 0x06, 0x04, 0x30
_ENVELOPED = bytes.fromhex("2a864886f70d010703")
_DATA = bytes.fromhex("2a864886f70d010701")
_AES256_CBC = bytes.fromhex("60864801650304012a")
# AlgorithmIdentifier of RSAES-OAEP with SHA-256 and MGF1 with SHA-256, no label: one encoding, as KMS has it.
_OAEP = bytes.fromhex(
    "06092a864886f70d010107302fa00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
)


class NotForUsError(Exception):
    """It is no answer to this enclave. Says no more, on purpose."""


class _Element:
    """One element: its tag, and its content; ``children`` reads the content of a constructed one."""

    def __init__(self, tag: int, content: bytes, depth: int) -> None:
        self.tag, self.content, self._depth = tag, content, depth

    def children(self, *tags: int) -> list[_Element]:
        """Return the elements of the content, which have these tags."""
        found = list(_elements(self.content, self._depth))
        if [element.tag for element in found] != list(tags):
            raise NotForUsError
        return found


def open_cms(data: bytes, key: RSAPrivateKey) -> bytes:
    """Return what was encrypted to ``key``.

    Raises:
        NotForUsError: anything else.
    """
    try:
        wrapped, iv, encrypted = _parse(data)
        content_key = key.decrypt(wrapped, OAEP(MGF1(SHA256()), SHA256(), None))
        decryptor = Cipher(AES256(content_key), CBC(iv)).decryptor()
        padded = decryptor.update(encrypted) + decryptor.finalize()
        unpadder = PKCS7(128).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as exc:
        raise NotForUsError from exc


def _parse(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the wrapped key, the IV and the encrypted content."""
    if len(data) > MAX_CMS_BYTES:
        raise NotForUsError
    kind, explicit = _Element(0, data, _MAX_DEPTH).children(_SEQUENCE)[0].children(_OID, 0xA0)
    (enveloped,) = explicit.children(_SEQUENCE)
    version, recipients, content = enveloped.children(0x02, 0x31, _SEQUENCE)
    (recipient,) = recipients.children(_SEQUENCE)
    recipient_version, _, algorithm, wrapped = recipient.children(0x02, 0x80, _SEQUENCE, _OCTETS)
    data_kind, cipher, encrypted = _children_of_content(content)
    cipher_kind, iv = cipher.children(_OID, _OCTETS)
    found = [kind.content, version.content, recipient_version.content, algorithm.content]
    found += [data_kind.content, cipher_kind.content]
    if found != [_ENVELOPED, b"\x02", b"\x02", _OAEP, _DATA, _AES256_CBC] or len(iv.content) != 16:
        raise NotForUsError
    if encrypted.tag == 0x80:
        return wrapped.content, iv.content, encrypted.content
    chunks = list(_elements(encrypted.content, 1))
    if any(chunk.tag != _OCTETS for chunk in chunks):
        raise NotForUsError
    return wrapped.content, iv.content, b"".join(chunk.content for chunk in chunks)


def _children_of_content(content: _Element) -> Sequence[_Element]:
    """Both forms occur in KMS's answers: the encrypted bytes as they are, or in chunks."""
    try:
        return content.children(_OID, _SEQUENCE, 0xA0)
    except NotForUsError:
        return content.children(_OID, _SEQUENCE, 0x80)


def _elements(data: bytes, depth: int) -> Iterator[_Element]:
    position = 0
    while position < len(data):
        element, position = _element(data, position, depth)
        yield element


def _element(data: bytes, start: int, depth: int) -> tuple[_Element, int]:
    """Return the element that begins at ``start``, and where it ends."""
    if depth == 0 or len(data) - start < 2:
        raise NotForUsError
    tag, length = data[start], data[start + 1]
    position = start + 2
    if tag & 0x1F == 0x1F:
        raise NotForUsError
    if length == 0x80:  # indefinite: until an end of contents
        if not tag & 0x20:
            raise NotForUsError
        first = position
        while data[position : position + 2] != _END:
            _, position = _element(data, position, depth - 1)
        return _Element(tag, data[first:position], depth - 1), position + 2
    if length > 0x80:
        width = length - 0x80
        if width > 3:
            raise NotForUsError
        length = int.from_bytes(data[position : position + width], "big")
        position += width
    end = position + length
    if end > len(data):
        raise NotForUsError
    return _Element(tag, data[position:end], depth - 1), end
