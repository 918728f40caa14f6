"""The commands below ``policy`` that only read."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tests.cli.command import enclavectl
from tests.cli.policies import COMMENT, REGISTERS, ok, refused, run
from tests.forge import PCRS, EnclaveForge


def test_show_says_what_each_release_is_worth_at_a_time(folder: Path) -> None:
    ok(folder, "retire", "p.yaml", "1.0", "--expires", "2027-01-31")
    ok(folder, "add", "p.yaml", "--from-lock", "b.json", "--name", "1.1", "--not-before", "2027-01-30")

    def states(at: str) -> dict[str, str]:
        value = ok(folder, "show", "p.yaml", "--at", at, "--output", "json").json()
        return {one["name"]: one["state"] for one in value["policy"]["releases"]}

    assert states("2027-01-29") == {"1.0": "valid", "1.1": "not-yet-valid"}
    assert states("2027-01-30T12:00:00Z") == {"1.0": "valid", "1.1": "valid"}
    assert states("2027-01-31") == {"1.0": "expired", "1.1": "valid"}
    done = ok(folder, "show", "p.yaml", "--at", "2027-01-29")
    assert "notes on 1.0  by Ada" in done.out
    assert "release 1.0 expires in 2 days, at 2027-01-31T00:00:00Z" in done.err
    [note] = ok(folder, "show", "p.yaml", "--at", "2027-01-29", "-o", "json").json()["notes"]
    assert (note["code"], note["release"]) == ("expires-soon", "1.0")


def test_check_ends_with_4_where_nothing_is_valid(folder: Path) -> None:
    ok(folder, "retire", "p.yaml", "1.0", "--expires", "2027-01-31")
    assert "expires-soon" in ok(folder, "check", "p.yaml", "--at", "2027-01-30").out
    done = run(folder, "check", "p.yaml", "--at", "2027-01-31", "--output", "json")
    assert done.status == 4
    assert [one["code"] for one in done.json()["findings"]] == [
        "nothing-valid",
        "expired",
        "model-not-pinned",
    ]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (("policy/2", "policy/1"), "policy-version"),
        (("policy/2", "policy/3"), "policy-version"),
        (("accept", "acept"), "policy-format"),
        (("[nitro]", "[]"), "policy-empty"),
        ((REGISTERS["PCR2"], "00" * 48), "policy-zeros"),
        (("PCR2:", "PCR5:"), "policy-pcrs"),
        (("PCR2:", "PCR16:"), "policy-model-alone"),
        (("notes: 'by Ada'", "{not_before: 2027-02-01, expires: 2027-01-31}"), "policy-format"),
        (("notes: 'by Ada'", "not_before: 2027-02-01\n    expires: 2027-01-31"), "policy-contradiction"),
    ],
)
def test_each_defect_of_a_policy_has_its_code(folder: Path, edit: tuple[str, str], code: str) -> None:
    text = (folder / "p.yaml").read_text()
    assert edit[0] in text
    (folder / "bad.yaml").write_text(text.replace(*edit))
    assert "bad.yaml" in refused(folder, 2, code, "check", "bad.yaml")


def test_the_way_out_of_a_policy_without_releases_is_a_new_one(folder: Path) -> None:
    (folder / "none.yaml").write_text("schema: enclavectl.policy/2\naccept: [nitro]\nreleases: []\n")
    for words in (("check", "none.yaml"), ("add", "none.yaml", "--from-lock", "b.json")):
        assert "enclavectl policy new --from-lock LOCK --to FILE" in run(folder, *words).err


def test_a_policy_of_another_version_is_refused_by_every_command(folder: Path) -> None:
    (folder / "bad.yaml").write_text((folder / "p.yaml").read_text().replace("policy/2", "policy/1"))
    (folder / "d.bin").write_bytes(EnclaveForge().genuine())
    for words in (
        ("show", "bad.yaml"),
        ("diff", "p.yaml", "bad.yaml"),
        ("explain", "bad.yaml", "d.bin"),
        ("add", "bad.yaml", "--from-lock", "b.json"),
        ("retire", "bad.yaml", "1.0"),
        ("revoke", "bad.yaml", "1.0", "--reason", "r"),
    ):
        assert "bad.yaml:2: schema: " in refused(folder, 2, "policy-version", *words)


def test_explain_shows_the_nearest_release_register_by_register(folder: Path) -> None:
    ok(folder, "add", "p.yaml", "--from-lock", "b.json", "--name", "1.1", "--pcr", "16=" + "ab" * 48)
    document = EnclaveForge({**PCRS, 0: b"\x20" * 48}).genuine()
    for name, data in (
        ("raw", document),
        ("hex", document.hex().encode()),
        ("b64", base64.encodebytes(document)),
    ):
        (folder / name).write_bytes(data)
        done = run(folder, "explain", "p.yaml", name, "--output", "json")
        value = done.json()
        assert (done.status, value["accepted"], value["signature_verified"]) == (4, None, False)
        assert value["refusal"]["code"] == "pcr-mismatch"
        nearest = value["releases"][0]
        assert {one["pcr"]: one["result"] for one in nearest["registers"]}[0] == "differs"
    drawn = run(folder, "explain", "p.yaml", "raw")
    assert drawn.status == 4
    assert "nearest release  1.0" in drawn.out
    assert "PCR0\tdiffers\t1010101010101010...\t2020202020202020..." in drawn.out
    assert "signature was not verified" in drawn.err


def test_explain_says_missing_for_a_register_that_was_not_locked(folder: Path) -> None:
    text = (folder / "p.yaml").read_text()
    (folder / "p.yaml").write_text(text.replace("PCR8:", "PCR16:"))
    (folder / "raw").write_bytes(EnclaveForge().genuine())
    done = run(folder, "explain", "p.yaml", "raw")
    assert done.status == 4
    assert "PCR16\tmissing\t1818181818181818...\t-" in done.out


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 2, "usage"),
        (b"some text!", 4, "encoding"),
        (b"\x84\x00", 4, "cbor"),
        (b"a0", 4, "cose-structure"),
    ],
)
def test_explain_says_what_is_wrong_with_a_document(
    folder: Path, data: bytes, status: int, code: str
) -> None:
    (folder / "d").write_bytes(data)
    done = run(folder, "explain", "p.yaml", "d", "--output", "json")
    assert (done.status, done.error()["code"]) == (status, code)


def test_diff_says_what_a_review_has_to_look_at(folder: Path) -> None:
    (folder / "old.yaml").write_text((folder / "p.yaml").read_text().replace(COMMENT, "# Another comment"))
    assert ok(folder, "diff", "old.yaml", "p.yaml", "--output", "json").json()["same"] is True
    assert "none" in ok(folder, "diff", "old.yaml", "p.yaml").out
    ok(folder, "retire", "p.yaml", "1.0", "--expires", "2027-01-31")
    value = ok(folder, "diff", "old.yaml", "p.yaml", "--output", "json").json()
    assert value["changes"] == [
        {
            "part": "release",
            "what": "changed",
            "name": "1.0",
            "field": "expires",
            "before": None,
            "after": "2027-01-31T00:00:00Z",
        }
    ]
    assert (
        "release\t1.0\tchanged\texpires\t-\t2027-01-31T00:00:00Z"
        in ok(folder, "diff", "old.yaml", "p.yaml").out
    )


def test_no_time_no_file_no_such_option_is_an_error_of_usage(folder: Path) -> None:
    for words in (
        ("show", "p.yaml", "--at", "yesterday"),
        ("show", "absent.yaml"),
        ("check",),
        ("explain", "p.yaml"),
    ):
        assert run(folder, *words).status == 2
    os.mkfifo(folder / "fifo")
    assert "expected a file (policy), found a FIFO" in run(folder, "show", "fifo").err


def test_the_releases_of_the_named_policy_are_completed(folder: Path) -> None:
    asked = {
        "_ENCLAVECTL_COMPLETE": "complete_bash",
        "COMP_WORDS": "enclavectl policy retire p.yaml ",
        "COMP_CWORD": "4",
    }
    assert enclavectl(home=folder, environ=asked).out.split() == ["1.0"]
    absent = {**asked, "COMP_WORDS": "enclavectl policy retire absent.yaml "}
    done = enclavectl(home=folder, environ=absent)
    assert (done.out.split(), done.err) == ([], "")
