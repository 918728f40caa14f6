"""A real nitro-cli says of our images what we say; and ours of those that it signs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cli.command import enclavectl
from tests.eif import samples
from tests.nitro.real import NitroCli, real_nitro_cli

pytestmark = pytest.mark.nitro_cli


@pytest.fixture
def real(tmp_path: Path) -> NitroCli:
    nitro_cli = NitroCli(real_nitro_cli(), tmp_path)
    nitro_cli.logs.mkdir()
    nitro_cli.sockets.mkdir()
    return nitro_cli


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "unsigned.eif"
    path.write_bytes(samples.image())
    return path


def signing_files(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP384R1())
    start = datetime.now(UTC) - timedelta(days=1)
    (folder / "key.pem").write_bytes(samples.key_pem(key))
    (folder / "cert.pem").write_bytes(samples.certificate(key, start=start))
    return folder / "key.pem", folder / "cert.pem"


def assert_same_description(real: NitroCli, image: Path) -> None:
    theirs = json.loads(real.run("describe-eif", "--eif-path", image).out)
    ours = enclavectl("eif", "show", image, "--output", "json", home=real.home).json()
    ours.pop("enclavectl")
    assert list(ours) == list(theirs)
    # The name of a Rust type, another one in each of its library's releases.
    for one in (ours, theirs):
        measurements = one["Measurements"]
        assert isinstance(measurements, dict)
        assert "384" in measurements["HashAlgorithm"] or "Sha512_48" in measurements["HashAlgorithm"]
        del measurements["HashAlgorithm"]
    assert ours == theirs


def test_an_unsigned_image_is_described_alike(real: NitroCli, image: Path) -> None:
    assert_same_description(real, image)


def test_an_image_that_we_signed_is_described_alike_and_its_signature_checks(
    real: NitroCli, image: Path
) -> None:
    key, certificate = signing_files(real.home)
    signed = real.home / "signed.eif"
    options = ["--key", key, "--cert", certificate, "--to", signed]
    assert enclavectl("eif", "sign", image, *options, home=real.home).status == 0
    assert_same_description(real, signed)
    assert json.loads(real.run("describe-eif", "--eif-path", signed).out)["SignatureCheck"] is True


def test_an_image_that_nitro_cli_signed_is_sound(real: NitroCli, image: Path) -> None:
    key, certificate = signing_files(real.home)
    options = ("--private-key", key, "--signing-certificate", certificate)
    done = real.run("sign-eif", "--eif-path", image, *options)
    assert done.status == 0, done.err
    verified = enclavectl("eif", "verify", image, "--output", "json", home=real.home)
    assert verified.status == 0, verified.out
    assert verified.json()["signed"] is True
    assert_same_description(real, image)
