"""What admitting a signed image says of its certificate's end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.backends.keeping.images import admit_image
from enclavectl.eif.errors import EifError
from enclavectl.eif.sign import load_signer, sign_image
from tests.eif.samples import NOW, certificate, image, key_pem


class Notes:
    """A ``Progress`` that keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        raise AssertionError(f"nothing here takes long: {what} {elapsed_s} {bound_s}")


def admit(folder: Path, *, days: int) -> list[str]:
    """Admit an image whose certificate ends in ``days`` days; return what is noted."""
    key = ec.generate_private_key(ec.SECP384R1())
    (folder / "plain.eif").write_bytes(image())
    signer = load_signer(key_pem(key), certificate(key, days=days + 1), now=NOW)
    sign_image(folder / "plain.eif", folder / "a.eif", signer)
    notes = Notes()
    admit_image(folder / "a.eif", folder / "store", now=NOW, progress=notes)
    return notes.texts


@pytest.mark.parametrize("days", [29, 1])
def test_a_certificate_that_ends_within_a_month_is_noted(tmp_path: Path, days: int) -> None:
    (note,) = admit(tmp_path, days=days)
    assert f"expires in {days} days" in note


@pytest.mark.parametrize("days", [30, 400])
def test_a_certificate_that_lasts_longer_is_not_mentioned(tmp_path: Path, days: int) -> None:
    assert admit(tmp_path, days=days) == []


def test_no_enclave_starts_once_the_certificate_has_ended(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "plain.eif").write_bytes(image())
    signer = load_signer(key_pem(key), certificate(key, days=2), now=NOW)
    sign_image(tmp_path / "plain.eif", tmp_path / "a.eif", signer)
    with pytest.raises(EifError):
        admit_image(tmp_path / "a.eif", tmp_path / "store", now=NOW + timedelta(days=2), progress=Notes())
