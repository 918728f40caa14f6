"""The keys that sign images: PEM files, which we use, and keys in KMS, which only nitro-cli can."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from enclavectl.eif.errors import naming
from enclavectl.eif.sign import MAX_PEM, KeySigner, load_certificate, load_key, pair, refuse_private_key
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.image.nitro import NitroSigning, is_kms_key


class BuilderChoice(StrEnum):
    """What writes the enclave image."""

    AUTO = "auto"
    NATIVE = "native"
    NITRO_CLI = "nitro-cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Who builds and with what it signs."""

    key: str | None
    certificate: Path | None
    builder: BuilderChoice

    def __post_init__(self) -> None:
        if (self.key is None) is not (self.certificate is None):
            raise UsageError("--sign and --cert: expected both, found one of them")

    def nitro_cli(self) -> NitroSigning | None:
        """Return what nitro-cli is to sign with, or None if nitro-cli does not build.

        Raises:
            UsageError: the key and the builder do not go together.
        """
        is_kms = self.key is not None and is_kms_key(self.key)
        if self.key is not None and self.key.startswith("arn:") and not is_kms:
            raise UsageError(
                f"--sign: expected arn:aws:kms:REGION:ACCOUNT:key/ID, found {self.key}",
                hint="nitro-cli takes the ARN of a key and no alias: aws kms describe-key --key-id ALIAS",
            )
        if self.builder is BuilderChoice.NATIVE and is_kms:
            raise UsageError(
                "--sign: only nitro-cli can use a key in KMS",
                hint="enclavectl build --builder nitro-cli uses it",
            )
        if self.builder is BuilderChoice.NITRO_CLI or is_kms:
            self._check(is_kms=is_kms)
            return NitroSigning(key=self.key, certificate=self.certificate)
        return None

    def _check(self, *, is_kms: bool) -> None:
        """Check before minutes of building: nitro-cli looks at keys at its end, at certificates never."""
        if self.certificate is None:
            return
        if not is_kms:
            self.signer()
        pem = _certificate(self.certificate)
        with naming(self.certificate):
            load_certificate(pem, now=_now())
            refuse_private_key(pem)

    def signer(self) -> KeySigner | None:
        """Return our own signer, or None where nothing is to be signed."""
        if self.key is None or self.certificate is None:
            return None
        return read_signer(Path(self.key), self.certificate)


def read_signer(key: Path, certificate: Path) -> KeySigner:
    """Return a key and the certificate that belongs to it and is valid now, from PEM files.

    Raises:
        UsageError: a file cannot be read, or cannot be what it should be.
    """
    key_pem = read_bounded(key, MAX_PEM, what="signing key")
    certificate_pem = _certificate(certificate)
    with naming(key):
        private = load_key(key_pem)
    with naming(certificate):
        return pair(private, load_certificate(certificate_pem, now=_now()))


def _certificate(path: Path) -> bytes:
    return read_bounded(path, MAX_PEM, what="certificate")


def _now() -> datetime:
    return datetime.now(UTC)
