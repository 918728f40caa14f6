"""Answers in the shape of AWS KMS, byte for byte: CMS EnvelopedData in BER with indefinite lengths."""

import os

from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.padding import PKCS7

_OAEP = bytes.fromhex(
    "303c06092a864886f70d010107302fa00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
)
_END = b"\0\0"


def _definite(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 + width]) + size.to_bytes(width, "big") + content


def kms_answer(public: RSAPublicKey, plaintext: bytes, *, is_primitive: bool = False) -> bytes:
    """Encrypt to an enclave's key as KMS does; 32 bytes make 493."""
    padder = PKCS7(128).padder()
    return kms_answer_of(public, padder.update(plaintext) + padder.finalize(), is_primitive=is_primitive)


def kms_answer_of(public: RSAPublicKey, padded: bytes, *, is_primitive: bool = False) -> bytes:
    """The same of bytes that are padded already, or falsely."""
    key, iv = os.urandom(32), os.urandom(16)
    encryptor = Cipher(AES256(key), CBC(iv)).encryptor()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    wrapped = public.encrypt(key, OAEP(MGF1(SHA256()), SHA256(), None))
    recipient = _definite(
        0x30,
        b"\x02\x01\x02" + _definite(0x80, os.urandom(32)) + _OAEP + _definite(0x04, wrapped),
    )
    chunked = b"\xa0\x80" + _definite(0x04, encrypted) + _END
    content = _definite(0x80, encrypted) if is_primitive else chunked
    cipher = bytes.fromhex("301d060960864801650304012a0410") + iv
    return (
        b"\x30\x80" + bytes.fromhex("06092a864886f70d010703") + b"\xa0\x80\x30\x80\x02\x01\x02"
        + _definite(0x31, recipient)
        + b"\x30\x80" + bytes.fromhex("06092a864886f70d010701") + cipher + content + _END
        + 3 * _END
    )  # fmt: skip
