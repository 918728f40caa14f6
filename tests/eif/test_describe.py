"""The description beside what the vectors cover: hostile metadata, our own facts, files without a header."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from enclavectl.eif.describe import describe
from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import examine
from enclavectl.eif.format import SectionKind
from tests.eif.samples import CMDLINE, METADATA, NOW, bzimage, cpio, image


def described(data: bytes) -> dict[str, object]:
    return describe(examine(io.BytesIO(data), now=NOW))


def test_custom_metadata_cannot_stand_in_for_the_builders_own() -> None:
    custom = {"BuildTime": "yesterday", "DockerInfo": "none", "team": "a"}
    parts = [
        (1, bzimage()),
        (2, CMDLINE),
        (int(SectionKind.METADATA), replace(METADATA, custom=custom).to_bytes()),
        (3, cpio()),
    ]
    found = described(image(parts))
    metadata, facts = found["Metadata"], found["enclavectl"]
    assert isinstance(metadata, dict)
    assert isinstance(facts, dict)
    assert metadata == {**METADATA.build_fields(), "DockerInfo": None, "team": "a"}
    assert facts["custom_metadata"] == custom


def test_our_facts_say_what_is_in_the_file() -> None:
    facts = described(image())["enclavectl"]
    assert isinstance(facts, dict)
    assert facts["sound"] is True
    assert [section["kind"] for section in facts["sections"]] == [
        "kernel",
        "cmdline",
        "metadata",
        "ramdisk",
        "ramdisk",
    ]
    assert "table_measurements" not in facts


def test_damage_is_described_not_hidden() -> None:
    found = described(image()[:-1] + b"?")
    assert found["CheckCRC"] is False
    facts = found["enclavectl"]
    assert isinstance(facts, dict)
    assert (facts["sound"], [one["code"] for one in facts["findings"]]) == (False, ["crc"])


def test_unknown_flags_withhold_the_measurements() -> None:
    assert described(image(header={"flags": 0x240}))["Measurements"] == {}


def test_a_file_without_a_header_cannot_be_described() -> None:
    with pytest.raises(EifError) as caught:
        described(b"x" * 547)
    assert caught.value.code == "truncated-header"
