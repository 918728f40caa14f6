"""The builder that calls nitro-cli, against an executable that behaves like it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import read_image
from enclavectl.eif.format import SectionKind
from enclavectl.eif.sign import KeySigner
from enclavectl.eif.signature import Curve
from enclavectl.errors import HostError
from enclavectl.image.nitro import NitroBuild, build_with_nitro_cli, is_kms_key
from tests.eif import samples

# Streams and codes of nitro-cli 1.4: the first code on stderr is the cause, E39 is not.
FAKE = """#!/bin/sh
printf '%s\\n' "$*" > "{folder}/argv"
env | sort > "{folder}/environment"
while [ $# -gt 0 ]; do [ "$1" = --output-file ] && output=$2; shift; done
: > "$output"
{body}
"""


def fake(folder: Path, body: str) -> Mapping[str, str]:
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    program = bin_folder / "nitro-cli"
    program.write_text(FAKE.format(folder=folder, body=body))
    program.chmod(0o755)
    return {
        "PATH": f"{bin_folder}:/usr/bin:/bin",
        "HOME": str(folder),
        "SECRET": "x",
        "AWS_REGION": "eu-west-1",
    }


def image(folder: Path) -> dict[str, str]:
    (folder / "sample.eif").write_bytes(samples.image())
    with (folder / "sample.eif").open("rb") as file:
        return read_image(file).measurements.registers()


def succeeding(folder: Path, registers: Mapping[str, str]) -> Mapping[str, str]:
    said = json.dumps({"Measurements": {"HashAlgorithm": "Sha384 { ... }", **registers}})
    return fake(folder, f"echo Start building... >&2\ncp {folder}/sample.eif \"$output\"\necho '{said}'")


def test_what_nitro_cli_built_is_read_back(tmp_path: Path) -> None:
    environ = succeeding(tmp_path, image(tmp_path))
    output = tmp_path / "out" / "a.eif"
    output.parent.mkdir()
    build = NitroBuild(image="name:1", output=output, blobs=tmp_path / "blobs")
    measurements = build_with_nitro_cli(build, environ)
    assert output.read_bytes() == (tmp_path / "sample.eif").read_bytes()
    assert measurements.registers() == image(tmp_path)
    assert [path.name for path in output.parent.iterdir()] == ["a.eif"]
    environment = (tmp_path / "environment").read_text()
    assert f"NITRO_CLI_BLOBS={tmp_path}/blobs" in environment
    assert "NITRO_CLI_ARTIFACTS=" in environment
    assert "BACKTRACE=1" in environment
    assert "AWS_REGION" not in environment  # only for keys in KMS
    assert "SECRET" not in environment


def test_a_failure_names_the_first_cause_and_leaves_the_old_image(tmp_path: Path) -> None:
    words = "[ E48 ] EIF building error. Such error appears when\\n[ E39 ] Enclave process connection failure"
    environ = fake(tmp_path, f"printf '{words}' >&2; exit 48")
    output = tmp_path / "a.eif"
    output.write_bytes(b"the old one")
    with pytest.raises(HostError, match="E48: the image could not be built"):
        build_with_nitro_cli(NitroBuild(image="name:1", output=output), environ)
    assert output.read_bytes() == b"the old one"


def test_an_image_that_stayed_unsigned_is_refused(tmp_path: Path) -> None:
    environ = succeeding(tmp_path, image(tmp_path))
    build = NitroBuild(image="n:1", output=tmp_path / "a.eif", key="key.pem", certificate=tmp_path / "c.pem")
    with pytest.raises(HostError, match="unsigned"):
        build_with_nitro_cli(build, environ)
    assert not (tmp_path / "a.eif").exists()
    assert "key.pem --signing-certificate" in (tmp_path / "argv").read_text()


def test_relative_paths_mean_the_callers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nitro-cli runs in a scratch folder, where they would name nothing."""
    monkeypatch.chdir(tmp_path)
    environ = {**succeeding(tmp_path, image(tmp_path)), "NITRO_CLI_BLOBS": "elsewhere"}
    build_with_nitro_cli(NitroBuild(image="n:1", output=Path("a.eif")), environ)
    assert (tmp_path / "a.eif").is_file()
    assert f"NITRO_CLI_BLOBS={tmp_path}/elsewhere" in (tmp_path / "environment").read_text()
    build = NitroBuild(
        image="n:1",
        output=Path("b.eif"),
        blobs=Path("blobs"),
        key="key.pem",
        certificate=Path("cert.pem"),
    )
    with pytest.raises(HostError, match="unsigned"):
        build_with_nitro_cli(build, environ)
    signing = f"--private-key {tmp_path}/key.pem --signing-certificate {tmp_path}/cert.pem"
    assert signing in (tmp_path / "argv").read_text()
    assert f"NITRO_CLI_BLOBS={tmp_path}/blobs" in (tmp_path / "environment").read_text()


def test_a_signature_by_another_key_than_the_certificates_is_refused(tmp_path: Path) -> None:
    """nitro-cli signs with any key, and says nothing."""
    certificate = samples.certificate(ec.generate_private_key(ec.SECP384R1()))
    other = KeySigner(
        certificate_pem=certificate, curve=Curve.P384, key=ec.generate_private_key(ec.SECP384R1())
    )
    signature = other.sign(image(tmp_path)["PCR0"]).to_bytes()
    signed = samples.image([*samples.sections(), (SectionKind.SIGNATURE, signature)])
    (tmp_path / "sample.eif").write_bytes(signed)
    environ = succeeding(tmp_path, read_image(io.BytesIO(signed)).measurements.registers())
    build = NitroBuild(image="n:1", output=tmp_path / "a.eif", key="key.pem", certificate=tmp_path / "c.pem")
    with pytest.raises(EifError) as caught:
        build_with_nitro_cli(build, environ)
    assert caught.value.code == "signature-invalid"
    assert not (tmp_path / "a.eif").exists()


@pytest.mark.parametrize("said", ['{"Measurements": {"PCR0": "00"}}', "{}", "no JSON", '{"Measurements": 1}'])
def test_other_registers_than_the_images_are_refused(tmp_path: Path, said: str) -> None:
    image(tmp_path)
    environ = fake(tmp_path, f"cp {tmp_path}/sample.eif \"$output\"; echo '{said}'")
    with pytest.raises(HostError):
        build_with_nitro_cli(NitroBuild(image="name:1", output=tmp_path / "a.eif"), environ)


def test_without_nitro_cli_the_native_builder_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        build_with_nitro_cli(NitroBuild(image="n:1", output=tmp_path / "a.eif"), {"PATH": str(tmp_path)})
    assert "native" in str(caught.value.hint)


def test_keys_in_kms_are_known_by_their_arn() -> None:
    assert is_kms_key("arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab")
    assert not is_kms_key("arn:aws:kms:eu-west-1:123456789012:alias/name")
    assert not is_kms_key("key.pem")
