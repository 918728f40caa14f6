"""``describe-eif``, ``sign-eif``, ``pcr`` and ``build-enclave``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from enclavectl.eif.examine import read_image
from enclavectl.eif.format import SectionKind
from enclavectl.eif.measure import certificate_pcr
from enclavectl.eif.signature import parse_certificate
from enclavectl.json_object import JsonValue
from tests.cli.command import Done
from tests.eif import samples
from tests.nitro.contract.errors import failed
from tests.nitro.real import NitroCli


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and its certificate."""
    folder = tmp_path_factory.mktemp("signing")
    key = ec.generate_private_key(ec.SECP384R1())
    (folder / "key.pem").write_bytes(samples.key_pem(key))
    certificate = samples.certificate(key, start=datetime.now(UTC) - timedelta(days=1))
    (folder / "certificate.pem").write_bytes(certificate)
    return folder / "key.pem", folder / "certificate.pem"


def registers(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return read_image(file).measurements.registers()


def test_describe_eif(nitro_cli: NitroCli, eif: Path) -> None:
    ran = nitro_cli.run("describe-eif", "--eif-path", eif)
    assert (ran.status, ran.err) == (0, "")
    value = ran.json()
    algorithm = value["Measurements"].pop("HashAlgorithm")
    assert re.fullmatch(r"Sha\w+ \{ \.\.\.? \}", algorithm)
    assert value["Measurements"] == registers(eif)
    assert list(value) == [
        *("EifVersion", "Measurements", "IsSigned", "CheckCRC", "ImageName", "ImageVersion", "Metadata")
    ]
    assert (value["EifVersion"], value["IsSigned"], value["CheckCRC"]) == (4, False, True)
    assert value["Metadata"] == {
        "BuildTime": "2024-01-01T00:00:00+00:00",
        "BuildTool": "enclavectl",
        "BuildToolVersion": "0",
        "OperatingSystem": "Linux",
        "KernelVersion": "6.12",
        "DockerInfo": None,
    }
    assert ran.out.startswith('{\n  "EifVersion": 4,\n  "Measurements": {\n    "HashAlgorithm"')


def test_a_wrong_crc_is_a_field_and_no_error(nitro_cli: NitroCli, eif: Path) -> None:
    data = bytearray(eif.read_bytes())
    data[700] ^= 1
    eif.write_bytes(data)
    ran = nitro_cli.run("describe-eif", "--eif-path", eif)
    assert ran.status == 0
    assert ran.json()["CheckCRC"] is False


def test_custom_metadata_lies_flat_and_has_to_be_an_object(nitro_cli: NitroCli, eif: Path) -> None:
    def write(custom: JsonValue) -> None:
        metadata = replace(samples.METADATA, custom=custom).to_bytes()
        parts = samples.sections()
        parts[2] = (SectionKind.METADATA, metadata)
        eif.write_bytes(samples.image(parts))

    write({"Team": "skin"})
    described = nitro_cli.run("describe-eif", "--eif-path", eif).json()
    assert (described["Metadata"]["Team"], described["CheckCRC"]) == ("skin", True)
    write([1])
    failed(nitro_cli.run("describe-eif", "--eif-path", eif), "E17")


def test_no_image_is_a_parsing_error(nitro_cli: NitroCli, tmp_path: Path) -> None:
    failed(nitro_cli.run("describe-eif", "--eif-path", tmp_path / "absent.eif"), "E35")
    (tmp_path / "text.eif").write_text("no image\n" * 200)
    failed(nitro_cli.run("describe-eif", "--eif-path", tmp_path / "text.eif"), "E35")


def test_sign_eif(nitro_cli: NitroCli, eif: Path, signing: tuple[Path, Path]) -> None:
    key, certificate = signing
    before = eif.read_bytes()
    arguments = ("--eif-path", eif, "--private-key", key, "--signing-certificate", certificate)
    ran = nitro_cli.run("sign-eif", *arguments)
    assert (ran.status, ran.err) == (0, "Enclave Image successfully signed.\n")
    assert eif.read_bytes() != before  # in place
    measured = ran.json()["Measurements"]
    assert list(ran.json()) == ["Measurements"]
    pcr8 = certificate_pcr(der_of(certificate))
    assert {**registers(eif), "PCR8": pcr8} == {k: v for k, v in measured.items() if k != "HashAlgorithm"}
    described = nitro_cli.run("describe-eif", "--eif-path", eif).json()
    assert (described["IsSigned"], described["SignatureCheck"], described["CheckCRC"]) == (True, True, True)
    assert list(described["SigningCertificate"]) == [
        *("IssuerName", "Algorithm", "NotBefore", "NotAfter", "Signature")
    ]
    assert described["SigningCertificate"]["IssuerName"] == {"commonName": "test"}
    assert described["SigningCertificate"]["Algorithm"] == "ecdsa-with-SHA384"
    ends = described["SigningCertificate"]["NotAfter"].replace("GMT", "+0000")
    assert datetime.strptime(ends, "%b %d %H:%M:%S %Y %z") > datetime.now(UTC)


def der_of(certificate: Path) -> bytes:
    return parse_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)


def test_sign_eif_refuses(nitro_cli: NitroCli, eif: Path, signing: tuple[Path, Path], tmp_path: Path) -> None:
    key, certificate = signing
    before = eif.read_bytes()
    failed(nitro_cli.run("sign-eif"), "E01")
    failed(nitro_cli.run("sign-eif", "--eif-path", eif), "E60")
    pair = ("--private-key", key, "--signing-certificate", certificate)
    failed(nitro_cli.run("sign-eif", "--eif-path", tmp_path / "absent.eif", *pair), "E60")
    pair = ("--private-key", key, "--signing-certificate", tmp_path / "absent.pem")
    text = failed(nitro_cli.run("sign-eif", "--eif-path", eif, *pair), "E60")
    assert text.startswith('Could not read signing info: "Could not open the certificate file: Os { code: 2,')
    pair = ("--private-key", certificate, "--signing-certificate", certificate)
    failed(nitro_cli.run("sign-eif", "--eif-path", eif, *pair), "E60")
    assert eif.read_bytes() == before


def test_pcr(nitro_cli: NitroCli, signing: tuple[Path, Path], tmp_path: Path) -> None:
    _, certificate = signing
    ran = nitro_cli.run("pcr", "--signing-certificate", certificate)
    assert ran == Done(0, json.dumps({"PCR8": certificate_pcr(der_of(certificate))}, indent=2) + "\n", "")
    (tmp_path / "abc").write_bytes(b"abc")
    ran = nitro_cli.run("pcr", "--input", tmp_path / "abc")
    assert ran == Done(0, json.dumps({"PCR": certificate_pcr(b"abc")}, indent=2) + "\n", "")
    failed(nitro_cli.run("pcr", "--input", tmp_path / "absent"), "E19")
    failed(nitro_cli.run("pcr", "--signing-certificate", tmp_path / "abc"), "E57")


def test_a_build_without_the_boot_files(nitro_cli: NitroCli, tmp_path: Path) -> None:
    output = tmp_path / "out.eif"
    ran = nitro_cli.run("build-enclave", "--docker-uri", "x", "--output-file", output)
    text = failed(ran, "E19")
    assert text.startswith("Start building the Enclave Image...\n[ E19 ]")
    assert f"File: '{nitro_cli.home / 'blobs'}/cmdline', failing operation: 'Open'." in text
