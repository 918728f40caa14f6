"""PCRs against the formulas written out, and the memory that measuring takes."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import read_verified
from enclavectl.eif.file_range import FileRange, bytes_range
from enclavectl.eif.format import Arch, SectionKind
from enclavectl.eif.measure import Measurer, certificate_pcr
from tests.eif.samples import CMDLINE, METADATA, bzimage, image

EMPTY = "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"


def pcr(data: bytes) -> str:
    return hashlib.sha384(bytes(48) + hashlib.sha384(data).digest()).hexdigest()


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 3, 4, 5, 9]), st.lists(st.binary(max_size=5), max_size=3)),
        max_size=12,
    )
)
def test_registers_are_the_formulas_for_any_order_of_sections(parts: list[tuple[int, list[bytes]]]) -> None:
    zero, one, two, ramdisks = b"", b"", b"", 0
    with Measurer() as measurer:
        for kind, chunks in parts:
            measurer.start_section(kind)
            for chunk in chunks:
                measurer.update(kind, chunk)
            data = b"".join(chunks)
            ramdisks += kind == SectionKind.RAMDISK
            if kind in (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.RAMDISK):
                zero += data
                if kind == SectionKind.RAMDISK and ramdisks > 1:
                    two += data
                else:
                    one += data
        found = measurer.finish()
    assert (found.pcr0, found.pcr1, found.pcr2, found.pcr8) == (pcr(zero), pcr(one), pcr(two), None)


def test_one_ramdisk_means_pcr0_is_pcr1_and_pcr2_is_of_nothing() -> None:
    parts = [(1, bzimage()), (2, CMDLINE), (5, METADATA.to_bytes()), (3, b"070701")]
    found = read_verified(io.BytesIO(image(parts))).measurements
    assert found.pcr0 == found.pcr1 == pcr(bzimage() + CMDLINE + b"070701")
    assert found.pcr2 == EMPTY


def test_json_has_pcr8_only_where_there_is_one() -> None:
    found = read_verified(io.BytesIO(image())).measurements
    assert list(found.to_json()) == ["schema", "HashAlgorithm", "PCR0", "PCR1", "PCR2"]
    assert certificate_pcr(b"") == EMPTY


def test_every_byte_is_reported() -> None:
    seen: list[int] = []
    read_verified(io.BytesIO(image()), on_bytes=seen.append)
    assert sum(seen) == len(image()) - 548 - 5 * 12


def test_a_file_that_shrinks_is_an_error() -> None:
    with pytest.raises(EifError) as caught:
        list(FileRange(file=io.BytesIO(b"abc"), offset=1, size=5).chunks())
    assert (caught.value.code, caught.value.offset) == ("short-read", 3)


# VmHWM and not ru_maxrss, which keeps the peak of the parent process over fork and exec.
MEASURE = """
import re, sys
from enclavectl.eif.examine import read_verified
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
with open(sys.argv[1], "rb") as file:
    read_verified(file)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see peak memory")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(128 << 20)
    with big.open("rb") as file:
        ramdisk = FileRange(file=file, offset=0, size=128 << 20)
        spec = ImageSpec(
            kernel=bytes_range(bzimage()),
            cmdline=CMDLINE.decode(),
            ramdisks=(bytes_range(b"070701xx"), ramdisk),
            metadata=METADATA,
            arch=Arch.X86_64,
        )
        build_image(spec, tmp_path / "big.eif")
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "big.eif")], capture_output=True, text=True, check=True
    )
    assert 0 < int(run.stdout) < 64 * 1024
