"""The keys that sign images: PEM files, and keys in KMS, which only nitro-cli can use."""

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
    """The program that writes the enclave image."""

    AUTO = "auto"
    NATIVE = "native"
    NITRO_CLI = "nitro-cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """The builder and its signing options."""

    key: str | None
    certificate: Path | None
    builder: BuilderChoice

    def __post_init__(self) -> None:
        if (self.key is None) is not (self.certificate is None):
            raise UsageError("--sign and --cert: expected both, found one of them")

    def nitro_cli(self) -> NitroSigning | None:
        """Return nitro-cli's signing options, or None if nitro-cli does not build.

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
        """Check the key before minutes of building: nitro-cli checks keys last, and certificates never."""
        if self.certificate is None:
            return
        if not is_kms:
            self.signer()
        pem = _certificate(self.certificate)
        with naming(self.certificate):
            load_certificate(pem, now=_now())
            refuse_private_key(pem)

    def signer(self) -> KeySigner | None:
        """Return our own signer, or None if nothing is to be signed."""
        if self.key is None or self.certificate is None:
            return None
        return read_signer(Path(self.key), self.certificate)


def read_signer(key: Path, certificate: Path) -> KeySigner:
    """Read a key and its certificate from PEM files; the certificate must be valid now.

    Raises:
        UsageError: a file cannot be read, or is not a matching key or certificate.
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
