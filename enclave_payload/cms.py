"""The answer of AWS KMS to an enclave: CMS EnvelopedData (RFC 5652), read strictly.

KMS writes BER with indefinite lengths. There is no signature in it: whoever knows the recipient's public key
can write one. So what it opens to is only a candidate, which the sealed file's check decides about. Every
failure is one error: CBC without a MAC must not tell its padding apart from anything else.
"""

from __future__ import annotations

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
    (info,) = _children(data, _SEQUENCE)
    kind, explicit = _children(info, _OID, 0xA0)
    (enveloped,) = _children(explicit, _SEQUENCE)
    version, recipients, content = _children(enveloped, 0x02, 0x31, _SEQUENCE)
    (recipient,) = _children(recipients, _SEQUENCE)
    recipient_version, _, algorithm, wrapped = _children(recipient, 0x02, 0x80, _SEQUENCE, _OCTETS)
    # Both forms occur in KMS's answers: the encrypted bytes as they are, or in chunks.
    is_whole = [tag for tag, _ in _elements(content)][-1:] == [0x80]
    data_kind, cipher, encrypted = _children(content, _OID, _SEQUENCE, 0x80 if is_whole else 0xA0)
    cipher_kind, iv = _children(cipher, _OID, _OCTETS)
    found = [kind, version, recipient_version, algorithm, data_kind, cipher_kind]
    if found != [_ENVELOPED, b"\x02", b"\x02", _OAEP, _DATA, _AES256_CBC] or len(iv) != 16:
        raise NotForUsError
    if not is_whole:
        chunks = _elements(encrypted)
        encrypted = b"".join(_children(encrypted, *[_OCTETS] * len(chunks)))
    return wrapped, iv, encrypted


def _children(data: bytes, *tags: int) -> list[bytes]:
    """Return the contents of the elements, which have these tags."""
    found = _elements(data)
    if [tag for tag, _ in found] != list(tags):
        raise NotForUsError
    return [content for _, content in found]


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each element."""
    found, position = [], 0
    while position < len(data):
        tag, content, position = _element(data, position, _MAX_DEPTH)
        found.append((tag, content))
    return found


def _element(data: bytes, start: int, depth: int) -> tuple[int, bytes, int]:
    """Return the tag and the content of the element that begins at ``start``, and where it ends."""
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
            *_, position = _element(data, position, depth - 1)
        return tag, data[first:position], position + 2
    if length > 0x80:
        width = length - 0x80
        if width > 3:
            raise NotForUsError
        length = int.from_bytes(data[position : position + width], "big")
        position += width
    end = position + length
    if end > len(data):
        raise NotForUsError
    return tag, data[position:end], end
