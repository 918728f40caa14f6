"""The official tools' own files, and the hostile ones with the verdict that eif.md section 6 asks for."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.describe import describe
from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import examine, read_image
from enclavectl.eif.file_range import bytes_range, whole_file
from enclavectl.eif.findings import Severity
from enclavectl.eif.format import Arch
from enclavectl.eif.metadata import parse_metadata
from enclavectl.eif.ramdisk.ramdisks import BootFile, Mode, application_entries, boot_entries, write_ramdisk
from enclavectl.eif.signature import verify_signature
from tests.eif.samples import read_export
from tests.eif.vectors import vectors

NOW = datetime(2026, 11, 25, tzinfo=UTC)
SIGNED = ["signed_prime256v1", "signed_secp384r1", "signed_secp521r1", "signed_after"]
OFFICIAL = [*SIGNED, "unsigned", "unsigned_arm64", "unsigned_meta", "resigned_upstream_bug54"]
# The vectors' kernels and ramdisks are filler, which the lint of contents is there to notice.
FILLER = {"kernel-format", "ramdisk-magic"}

REFUSED = {
    "bad_magic": "magic",
    "boundary_cmdline_empty": "empty-section",
    "empty": "truncated-header",
    "hidden_section_after": "hidden-section",
    "meta_array_form": "metadata-type",
    "meta_deep": "metadata-depth",
    "meta_dup_in_custom": "metadata-duplicate-key",
    "meta_missing_custom": "metadata-missing-key",
    "no_kernel": "missing-section",
    "no_meta": "missing-section",
    "nsec_zero": "section-count",
    "offset_dup": "section-overlap",
    "offset_oob": "section-outside-file",
    "offsets_swapped_hdrcrc": "section-order",
    "secflags": "section-flags",
    "sig_alg_mismatch": "signature-algorithm",
    "sig_array_entry": "signature-form",
    "sig_der_cert": "certificate-form",
    "sig_empty_array": "signature-form",
    "sig_empty_protected": "signature-cose",
    "sig_entry0_ok_big_unknown": "signature-form",
    "sig_extra_key": "signature-form",
    "sig_garbage": "signature-form",
    "sig_indefinite_outer": "signature-form",
    "sig_keys_reordered": "signature-form",
    "sig_prot_extra": "signature-cose",
    "sig_short_sig": "signature-cose",
    "sig_sig_len_47": "signature-cose",
    "sig_trailing_byte": "signature-form",
    "sig_zero": "empty-section",
    "size_mismatch": "section-size-mismatch",
    "size_sechdr_2^63": "section-past-end",
    "size_sechdr_8G": "section-past-end",
    "size_sechdr_huge": "section-past-end",
    "split_view": "section-gap",
    "trail_11": "trailing-data",
    "trunc_header": "truncated-header",
    "type0": "section-type",
    "version0": "version",
    "zero_len_kernel": "empty-section",
}
# Whole files whose signature a verifier refuses.
UNVERIFIED = {
    "sig_expired": "certificate-time",
    "sig_rsa_cert": "certificate-key",
    "sig_secp256k1": "certificate-key",
    "sig_wrong_index": "signature-payload",
}
# Only odd: accepted, with these remarks beside those about the filler.
ODD = {
    "boundary_base": set(),
    "boundary_cmdline_in_kernel": set(),  # no PCR shows it; the kernel's own length does (test_lint)
    "boundary_ramdisk_split": set(),
    "meta_last": set(),
    "meta_trailing": {"metadata-form"},
    "sig_chain_pem": {"certificate-form"},
    "sig_pem_preamble": {"certificate-form"},
    "sig_size_40000": {"certificate-form"},
    "zero_len_ramdisk": {"empty-ramdisk"},
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_describe_to_the_same_keys_and_values(name: str) -> None:
    folder = vectors("official")
    with (folder / f"{name}.eif").open("rb") as file:
        ours = describe(examine(file, now=NOW))
    theirs = json.loads((folder / f"{name}.describe.json").read_text())
    facts = ours.pop("enclavectl")
    assert ours == theirs
    assert list(ours) == list(theirs)
    assert isinstance(facts, dict)
    codes = {finding["code"] for finding in facts["findings"]}
    assert codes == FILLER | ({"resigned-size-slot"} if "bug54" in name else set())


@pytest.mark.parametrize("name", [name for name in OFFICIAL if "bug54" not in name])
def test_official_files_are_read_strictly_and_their_signatures_verify(name: str) -> None:
    with (vectors("official") / f"{name}.eif").open("rb") as file:
        image = read_image(file)
        data = image.layout.data(image.layout.sections[2]).read(4096)
    assert image.metadata is not None
    assert image.metadata.to_bytes() == data
    assert (image.signature is not None) == (name in SIGNED)
    if image.signature is not None:
        evidence = verify_signature(image.signature, pcr0=image.measurements.pcr0)
        assert evidence.pcr8 == image.measurements.pcr8


@pytest.mark.parametrize("name", ["unsigned", "unsigned_arm64", "unsigned_meta"])
def test_official_files_are_rebuilt_byte_for_byte(name: str, tmp_path: Path) -> None:
    folder = vectors("official")
    theirs = (folder / f"{name}.eif").read_bytes()
    image = read_image(io.BytesIO(theirs))
    kernel, cmdline, metadata, *ramdisks = (
        image.layout.data(one).read(8192) for one in image.layout.sections
    )
    spec = ImageSpec(
        kernel=bytes_range(kernel),
        cmdline=cmdline.decode(),
        ramdisks=tuple(bytes_range(ramdisk) for ramdisk in ramdisks),
        metadata=parse_metadata(metadata),
        arch=Arch.ARM64 if "arm" in name else Arch.X86_64,
    )
    output = tmp_path / "ours.eif"
    build_image(spec, output)
    assert output.read_bytes() == theirs


def test_every_hostile_file_has_a_verdict() -> None:
    names = {path.stem for path in vectors("hostile").glob("*.eif")}
    assert names == set(REFUSED) | set(UNVERIFIED) | set(ODD)


@pytest.mark.parametrize(("name", "code"), REFUSED.items())
def test_hostile_files_are_refused_with_their_own_code(name: str, code: str) -> None:
    with (vectors("hostile") / f"{name}.eif").open("rb") as file:
        with pytest.raises(EifError) as caught:
            read_image(file)
        assert caught.value.code == code
        found = examine(file, now=NOW)
        assert code in {one.code for one in found.findings if one.severity is Severity.ERROR}
        assert not found.sound


@pytest.mark.parametrize(("name", "code"), UNVERIFIED.items())
def test_bad_signers_fail_verification(name: str, code: str) -> None:
    with (vectors("hostile") / f"{name}.eif").open("rb") as file:
        assert {one.code for one in examine(file, now=NOW).findings} - FILLER == {code}


@pytest.mark.parametrize(("name", "codes"), ODD.items())
def test_odd_files_are_read_with_a_remark(name: str, codes: set[str]) -> None:
    with (vectors("hostile") / f"{name}.eif").open("rb") as file:
        read_image(file)
        found = examine(file, now=NOW).findings
    assert {one.code for one in found} - FILLER == codes
    allowed = {Severity.WARNING} if name.startswith("sig_") else {Severity.NOTE}
    assert {one.severity for one in found if one.code in codes} <= allowed


def test_a_file_with_two_views_shows_both() -> None:
    with (vectors("hostile") / "split_view.eif").open("rb") as file:
        found = examine(file, now=NOW)
    assert found.scan.views_differ
    assert found.measurements is not None
    assert found.table_measurements is not None
    assert found.measurements.pcr0.startswith("d1a59779")
    assert found.table_measurements.pcr0.startswith("2aaaea07")


def test_linuxkit_ramdisks_are_reproduced_byte_for_byte() -> None:
    folder = vectors("linuxkit")
    files = [
        BootFile(name="init", data=bytes_range((folder / "sinit").read_bytes())),
        BootFile(name="nsm.ko", data=bytes_range((folder / "snsm").read_bytes())),
    ]
    boot = io.BytesIO()
    write_ramdisk(boot, boot_entries(files), Mode.NITRO_CLI)
    assert boot.getvalue() == (folder / "bootstrap-initrd.img").read_bytes()
    application = io.BytesIO()
    with (folder / "docker-export.tar").open("rb") as file:
        entries = application_entries(
            read_export(whole_file(file)),
            cmd=(folder / "cmd").read_bytes(),
            env=(folder / "env").read_bytes(),
        )
        write_ramdisk(application, entries, Mode.NITRO_CLI)
    assert application.getvalue() == (folder / "customer-initrd.img").read_bytes()
