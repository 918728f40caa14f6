"""``enclavectl eif show``, ``pcrs``, ``verify`` and ``diff``, through the installed command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.eif.format import SectionKind
from tests.cli.command import enclavectl
from tests.cli.images import eif, write_image
from tests.eif import samples
from tests.eif.vectors import vectors


def test_pcrs_are_those_of_show_and_verify(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    pcrs = eif(tmp_path, "pcrs", image).json()
    shown = eif(tmp_path, "show", image).json()
    verified = eif(tmp_path, "verify", image)
    assert pcrs["schema"] == "enclavectl.pcrs/1"
    assert pcrs["HashAlgorithm"] == "SHA384"
    registers = {name: pcrs[name] for name in ("PCR0", "PCR1", "PCR2")}
    assert "PCR8" not in pcrs
    measurements = shown["Measurements"]
    assert isinstance(measurements, dict)
    assert {name: measurements[name] for name in registers} == registers
    assert verified.status == 0
    assert verified.json()["pcrs"] == registers
    assert verified.json()["sound"] is True


def test_text_output_is_for_people(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    for command in ("show", "pcrs", "verify"):
        done = enclavectl("eif", command, image, home=tmp_path)
        assert done.status == 0, done.err
        assert "PCR0" in done.out
        assert "{" not in done.out.replace("Sha384 { ... }", "")


def test_damage_is_refused_and_lenient_reading_reports_all_of_it(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    data = bytearray(image.read_bytes())
    data[26] = 0xFF  # the section count
    data[-1] ^= 1
    image.write_bytes(data)
    for command in ("show", "pcrs"):
        done = eif(tmp_path, command, image)
        assert done.status == 2
        assert done.error()["code"] == "section-count"
    lenient = eif(tmp_path, "show", "--lenient", image)
    assert lenient.status == 2
    facts = lenient.json()["enclavectl"]
    assert isinstance(facts, dict)
    assert {"section-count", "crc"} <= {finding["code"] for finding in facts["findings"]}
    verified = eif(tmp_path, "verify", image)
    assert verified.status == 2
    assert verified.json()["sound"] is False


def test_verify_is_not_content_with_what_only_looks_odd(tmp_path: Path) -> None:
    parts = samples.sections()
    parts[0] = (SectionKind.KERNEL, samples.bzimage() + b"appended" * 8)
    (tmp_path / "a.eif").write_bytes(samples.image(parts))
    done = eif(tmp_path, "verify", tmp_path / "a.eif")
    assert done.status == 2
    assert "kernel-boundary" in done.out


@pytest.mark.parametrize("command", ["show", "pcrs", "verify"])
def test_a_huge_section_in_a_small_file_costs_nothing(tmp_path: Path, command: str) -> None:
    data = bytearray(write_image(tmp_path / "a.eif").read_bytes())
    data[284:292] = (8 << 60).to_bytes(8)
    data[552:560] = (8 << 60).to_bytes(8)
    (tmp_path / "a.eif").write_bytes(data)
    done = eif(tmp_path, command, tmp_path / "a.eif")
    assert done.status == 2
    assert "Traceback" not in done.err


def test_diff_names_the_model_and_the_pcrs(tmp_path: Path) -> None:
    before = write_image(tmp_path / "a.eif")
    after = write_image(tmp_path / "b.eif", model=b"weightz")
    found = eif(tmp_path, "diff", before, after)
    assert found.status == 0
    value = found.json()
    assert value["schema"] == "enclavectl.eif-diff/1"
    assert value["pcrs_changed"] == ["PCR0", "PCR2"]
    changes = value["changes"]
    assert isinstance(changes, list)
    assert [(one["where"], one["what"]) for one in changes] == [
        ("ramdisk1:/rootfs/app/model.tflite", "content")
    ]
    assert value["cause"] == "the model (/rootfs/app/model.tflite)"
    text = enclavectl("eif", "diff", before, after, home=tmp_path)
    assert "model.tflite" in text.out
    same = eif(tmp_path, "diff", before, before).json()
    assert same["identical"] is True


def test_diff_sees_time_stamps(tmp_path: Path) -> None:
    before = write_image(tmp_path / "a.eif")
    after = write_image(tmp_path / "b.eif", mtime=1)
    assert "time stamps only" in str(eif(tmp_path, "diff", before, after).json()["cause"])


def test_official_images_describe_as_the_official_tool_describes_them(tmp_path: Path) -> None:
    folder = vectors("official")
    described = sorted(folder.glob("*.describe.json"))
    assert described
    for path in described:
        image = folder / path.name.replace(".describe.json", ".eif")
        shown = eif(tmp_path, "show", "--lenient", image).json()
        shown.pop("enclavectl")
        assert shown == json.loads(path.read_bytes()), path.name


def test_the_split_view_shows_both_measurements(tmp_path: Path) -> None:
    done = eif(tmp_path, "show", "--lenient", vectors("hostile") / "split_view.eif")
    assert done.status == 2
    value = done.json()
    facts, linear = value["enclavectl"], value["Measurements"]
    assert isinstance(facts, dict)
    assert isinstance(linear, dict)
    assert facts["table_measurements"]["PCR0"] != linear["PCR0"]


def test_no_file_is_too_broken_to_be_said_so_in_text(tmp_path: Path) -> None:
    files = sorted(vectors("hostile").glob("*.eif"))
    assert files
    for options in (["verify"], ["show", "--lenient"], ["pcrs"]):
        done = enclavectl("eif", *options, *files, home=tmp_path)
        assert done.status == 2
        assert "Traceback" not in done.err
    single = enclavectl("eif", "verify", vectors("hostile") / "empty.eif", home=tmp_path)
    assert single.status == 2
    assert "NOT SOUND" in single.out


@pytest.mark.parametrize("name", ["sig_garbage", "sig_extra_key", "sig_der_cert"])
def test_a_signature_that_cannot_be_read_is_not_called_none(tmp_path: Path, name: str) -> None:
    image = vectors("hostile") / f"{name}.eif"
    shown = eif(tmp_path, "show", "--lenient", image).json()
    assert shown["IsSigned"] is True
    assert shown["SignatureCheck"] is False
    assert eif(tmp_path, "verify", image).json()["signed"] is True


def test_a_broken_layout_is_said_before_the_file_is_read(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.eif")
    with image.open("ab") as file:
        file.truncate(1 << 40)  # which would take minutes to read
    shown = eif(tmp_path, "show", image)
    assert shown.status == 2
    assert shown.error()["code"] == "section-count"


KEY = ec.generate_private_key(ec.SECP384R1())
CERTIFICATE = samples.certificate(KEY, start=datetime.now(UTC) - timedelta(days=1))


def signed_with(folder: Path, certificate_file: bytes, *, pcr0: str | None = None) -> Path:
    """An image signed as nitro-cli signs, which puts the certificate file into it as it is."""
    path = folder / "signed.eif"
    path.write_bytes(samples.signed_image(KEY, certificate_file, pcr0=pcr0))
    return path


def test_an_image_that_nitro_cli_signed_from_a_chain_is_shown_and_measured_with_a_warning(
    tmp_path: Path,
) -> None:
    image = signed_with(tmp_path, CERTIFICATE + b"\n" + CERTIFICATE)
    for command in ("show", "pcrs"):
        done = enclavectl("eif", command, image, home=tmp_path)
        assert done.status == 0, done.err
        assert "PCR8" in done.out
        assert "warning: certificate-form" in done.err
        assert "enclavectl eif sign" in done.err
    verified = eif(tmp_path, "verify", image)
    assert verified.status == 2
    assert {one["code"] for one in verified.json()["findings"]} == {"certificate-form"}


def test_a_private_key_in_an_image_is_named_by_every_command_that_reads_it(tmp_path: Path) -> None:
    image = signed_with(tmp_path, samples.key_pem(KEY) + CERTIFICATE)
    for command in ("show", "pcrs", "verify"):
        done = enclavectl("eif", command, image, home=tmp_path)
        assert "signature-private-key: the signature section holds a PRIVATE KEY" in done.err
        assert "make a new key" in done.err


def test_no_register_of_a_signature_that_does_not_verify_is_printed(tmp_path: Path) -> None:
    image = signed_with(tmp_path, CERTIFICATE, pcr0="00" * 48)
    done = eif(tmp_path, "pcrs", image)
    assert done.status == 2
    assert done.error()["code"] == "signature-payload"
    assert "PCR8" not in done.out


def test_an_issuer_that_cannot_be_read_is_a_finding_and_the_rest_is_described(tmp_path: Path) -> None:
    odd = samples.with_issuer(CERTIFICATE, b"\x0c\x04\xff\xfe\xfd\xfc")
    done = eif(tmp_path, "show", "--lenient", signed_with(tmp_path, odd))
    assert done.status == 2, done.err
    assert done.json()["SigningCertificate"]["IssuerName"] == {}
    assert "PCR8" in done.json()["Measurements"]
    assert "certificate-issuer" in {one["code"] for one in done.json()["enclavectl"]["findings"]}
