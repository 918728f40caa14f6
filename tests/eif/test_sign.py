"""Building and signing: what is written reads back, what fails leaves nothing."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.crc import crc32_combine
from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import examine, read_image
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.format import Arch
from enclavectl.eif.sign import KeySigner, load_signer, sign_image
from enclavectl.eif.signature import Curve, SignatureBlock, parse_signature, verify_signature
from enclavectl.errors import HostError, UsageError
from tests.eif.samples import CMDLINE, METADATA, NOW, bzimage, certificate, cpio, image, key_pem

CURVES = {Curve.P256: ec.SECP256R1(), Curve.P384: ec.SECP384R1(), Curve.P521: ec.SECP521R1()}


def spec(**changes: object) -> ImageSpec:
    made = ImageSpec(
        kernel=bytes_range(bzimage()),
        cmdline=CMDLINE.decode(),
        ramdisks=(bytes_range(cpio(b"0")), bytes_range(cpio(b"1"))),
        metadata=METADATA,
        arch=Arch.X86_64,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # values of any field's type


def signer(curve: Curve = Curve.P384) -> KeySigner:
    key = ec.generate_private_key(CURVES[curve])
    return load_signer(key_pem(key), certificate(key), now=NOW)


def only(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_built_image_is_the_one_that_the_samples_make(tmp_path: Path) -> None:
    output = tmp_path / "a.eif"
    measurements = build_image(spec(), output)
    assert output.read_bytes() == image()
    digest = hashlib.sha384(bzimage() + CMDLINE + cpio(b"0") + cpio(b"1")).digest()
    assert measurements.pcr0 == hashlib.sha384(bytes(48) + digest).hexdigest()
    only(tmp_path, "a.eif")
    with output.open("rb") as file:
        assert examine(file, now=NOW).sound


@pytest.mark.parametrize("curve", CURVES)
def test_signing_is_deterministic_and_verifies(curve: Curve, tmp_path: Path) -> None:
    who = signer(curve)
    measurements = build_image(spec(signer=who), tmp_path / "built.eif")
    build_image(spec(), tmp_path / "plain.eif")
    assert sign_image(tmp_path / "plain.eif", tmp_path / "signed.eif", who) == measurements
    assert (tmp_path / "signed.eif").read_bytes() == (tmp_path / "built.eif").read_bytes()
    with (tmp_path / "signed.eif").open("rb") as file:
        found = read_image(file)
        assert examine(file, now=NOW).sound
    assert found.signature is not None
    assert found.signature.curve is curve
    assert verify_signature(found.signature, pcr0=measurements.pcr0).pcr8 == measurements.pcr8


def test_signing_again_replaces_the_signature(tmp_path: Path) -> None:
    first, second = signer(), signer(Curve.P521)
    build_image(spec(signer=first), tmp_path / "a.eif")
    sign_image(tmp_path / "a.eif", tmp_path / "b.eif", second)
    build_image(spec(signer=second), tmp_path / "c.eif")
    assert (tmp_path / "b.eif").read_bytes() == (tmp_path / "c.eif").read_bytes()


def test_what_the_official_signer_damages_is_repaired_by_signing(tmp_path: Path) -> None:
    who = signer()
    build_image(spec(signer=who), tmp_path / "a.eif")
    data = bytearray((tmp_path / "a.eif").read_bytes())
    at = 284 + 8 * 5
    data[at : at + 8] = (int.from_bytes(data[at : at + 8]) + 3).to_bytes(8)
    data[544:548] = zlib.crc32(data[548:], zlib.crc32(data[:544])).to_bytes(4)
    (tmp_path / "bad.eif").write_bytes(data)
    with (tmp_path / "bad.eif").open("rb") as file, pytest.raises(EifError) as caught:
        read_image(file)
    assert caught.value.code == "resigned-size-slot"
    sign_image(tmp_path / "bad.eif", tmp_path / "good.eif", who)
    assert (tmp_path / "good.eif").read_bytes() == (tmp_path / "a.eif").read_bytes()


def test_a_file_is_never_signed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.eif"
    build_image(spec(), path)
    before = path.read_bytes()
    (tmp_path / "link.eif").symlink_to(path)
    with pytest.raises(UsageError) as caught:
        sign_image(path, tmp_path / "link.eif", signer())
    assert caught.value.code == "same-file"
    assert path.read_bytes() == before


class BrokenSigner:
    """Signs something else than what it is asked to sign."""

    def __init__(self) -> None:
        self._signer = signer()

    def sign(self, pcr0: str) -> SignatureBlock:
        return self._signer.sign(pcr0[::-1])


def test_a_signature_that_does_not_verify_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.eif"
    path.write_bytes(b"old")
    with pytest.raises(EifError) as caught:
        build_image(spec(signer=BrokenSigner()), path)
    assert caught.value.code == "signature-payload"
    assert path.read_bytes() == b"old"
    only(tmp_path, "a.eif")


def test_a_source_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    short = replace(bytes_range(cpio()), size=10_000)
    with pytest.raises(EifError) as caught:
        build_image(spec(ramdisks=(short,)), tmp_path / "a.eif")
    assert caught.value.code == "short-read"
    only(tmp_path)


def test_an_unwritable_folder_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="absent: cannot create"):
        build_image(spec(), tmp_path / "absent" / "a.eif")


def test_a_source_that_is_absent_or_no_file_is_the_callers_fault(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.eif")
    for name, words in (("absent.eif", "no such image file"), ("fifo.eif", "found a FIFO")):
        with pytest.raises(UsageError, match=words):
            sign_image(tmp_path / name, tmp_path / "b.eif", signer())
    only(tmp_path, "fifo.eif")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cmdline": ""}, "empty-section"),
        ({"cmdline": "a\n"}, "cmdline-text"),
        ({"cmdline": "é"}, "cmdline-text"),
        ({"cmdline": "a" * 2049}, "cmdline-text"),
        ({"kernel": bytes_range(b"")}, "empty-section"),
        ({"ramdisks": ()}, "empty-section"),
        ({"ramdisks": (bytes_range(cpio()),) * 30}, "section-count"),
        ({"ramdisks": (bytes_range(cpio() + b"x"), bytes_range(cpio()))}, "ramdisk-alignment"),
        ({"ramdisks": (bytes_range(cpio() + b"xx"), bytes_range(cpio()))}, "ramdisk-alignment"),
        ({"metadata": replace(METADATA, custom=2**70)}, "metadata-value"),
    ],
)
def test_specs_that_make_no_sound_image(changes: dict[str, object], code: str, tmp_path: Path) -> None:
    with pytest.raises(EifError) as caught:
        build_image(spec(**changes), tmp_path / "a.eif")
    assert caught.value.code == code
    only(tmp_path)


def test_keys_and_certificates_that_cannot_sign() -> None:
    key, other = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    wrong_curve, weak = ec.generate_private_key(ec.SECP256K1()), rsa.generate_private_key(65537, 2048)
    good = certificate(key)
    cases = {
        "certificate-mismatch": (key_pem(other), good),
        "signing-key": (key_pem(key, b"secret"), good),
        "certificate-form": (key_pem(key), key_pem(key)),
        "section-too-large": (key_pem(key), good * 100),
    }
    for code, (pem, cert) in cases.items():
        with pytest.raises(EifError) as caught:
            load_signer(pem, cert, now=NOW)
        assert caught.value.code == code
    for pem, cert in [
        (key_pem(weak), certificate(weak)),
        (key_pem(wrong_curve), certificate(wrong_curve)),
        (key_pem(key), certificate(weak)),
    ]:
        with pytest.raises(EifError) as caught:
            load_signer(pem, cert, now=NOW)
        assert caught.value.code == "certificate-key"
    for start in (NOW - timedelta(days=60), NOW + timedelta(seconds=1)):
        with pytest.raises(EifError) as caught:
            load_signer(key_pem(key), certificate(key, start=start), now=NOW)
        assert caught.value.code == "certificate-time"


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300), st.sampled_from(list(Curve)), st.data())
def test_signature_sections_round_trip(pem: bytes, payload: bytes, curve: Curve, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=2 * curve.width, max_size=2 * curve.width))
    block = SignatureBlock(certificate_pem=pem, curve=curve, payload=payload, signature=raw)
    whole = block.to_bytes()
    assert parse_signature(whole) == block
    for bad in (whole[:-1], whole + b"\0", b"\x9f" + whole[1:] + b"\xff"):
        with pytest.raises(EifError) as caught:
            parse_signature(bad)
        assert caught.value.code == "signature-form"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (b"\x18\x2d", b"\x19\x00\x2d"),
        (b"\x0a", b"\x18\x0a"),
        (b"\x18\xff", b"\x19\x01\x00"),
        (b"\x84\x18", b"\x98\x04\x18"),
        (b"\x84\x18", b"\x9f\x18"),
    ],
)
def test_only_the_shortest_encoding_is_accepted(short: bytes, long: bytes) -> None:
    block = SignatureBlock(
        certificate_pem=b"-\n\xff\x84", curve=Curve.P256, payload=b"", signature=b"\xff" * 64
    )
    whole = block.to_bytes()
    changed = whole.replace(short, long, 1)
    assert changed != whole
    with pytest.raises(EifError) as caught:
        parse_signature(changed)
    assert caught.value.code == "signature-form"


def test_a_signature_is_bound_to_its_pcr0_and_its_key() -> None:
    who, pcr0 = signer(), "00" * 48
    block = who.sign(pcr0)
    cases = {
        "signature-payload": (block, "01" + pcr0[2:]),
        "signature-invalid": (replace(block, certificate_pem=signer().certificate_pem), pcr0),
        "signature-algorithm": (replace(block, certificate_pem=signer(Curve.P256).certificate_pem), pcr0),
    }
    verify_signature(block, pcr0=pcr0)
    for code, (changed, value) in cases.items():
        with pytest.raises(EifError) as caught:
            verify_signature(changed, pcr0=value)
        assert caught.value.code == code


@given(st.binary(max_size=600), st.binary(max_size=5000))
def test_crcs_combine(first: bytes, second: bytes) -> None:
    assert crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)
