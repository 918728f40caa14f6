"""Many changes, one sentence."""

from __future__ import annotations

import pytest

from enclavectl.eif.compare.cause import Change, ChangeKind, likely_cause

SITE = "/usr/local/lib/python3.11/site-packages"
MODEL, CARD = f"{SITE}/enclave_payload/model/model.tflite", f"{SITE}/enclave_payload/model/model.json"


def application(path: str, what: ChangeKind = ChangeKind.CONTENT) -> Change:
    return Change(where=f"ramdisk1:{path}", what=what)


def section(name: str, what: ChangeKind = ChangeKind.CONTENT) -> Change:
    return Change(where=name, what=what)


def cause(*changes: Change) -> str:
    return likely_cause(changes, ["PCR0"])


def test_the_most_telling_comes_first() -> None:
    found = cause(
        section("metadata"),
        section("kernel"),
        Change(where="ramdisk0:/init", what=ChangeKind.CONTENT),
        application("/bin/app", ChangeKind.MODE),
        application(f"{SITE}/numpy/core.py"),
        application(f"{SITE}/enclave_payload/server.py", ChangeKind.ADDED),
        application(MODEL),
        application(CARD),
    )
    assert found.split("; ") == [
        "another kernel",
        f"the model ({MODEL}) with its card",
        f"the payload ({SITE}/enclave_payload/server.py added)",
        "packages (numpy)",
        "the boot files (/init)",
        "files (/bin/app mode)",
    ]


def test_a_path_counts_once_however_much_of_it_changed() -> None:
    one = [
        application("/a", ChangeKind.CONTENT),
        application("/a", ChangeKind.MODE),
        application("/a", ChangeKind.MTIME),
    ]
    assert cause(*one) == "files (/a)"
    assert cause(*one, application("/b"), application("/c")) == "files (/a and 2 more)"


def test_five_packages_are_named() -> None:
    changes = [application(f"{SITE}/{name}/__init__.py") for name in "gfedcba"]
    assert cause(*changes) == "packages (a, b, c, d, e and 2 more)"


def test_time_stamps_are_told_where_they_follow_from_nothing_else() -> None:
    model = application("/app/model/m.tflite")
    folders = [application(path, ChangeKind.MTIME) for path in ("/app", "/app/model")]
    assert cause(model, *folders) == "the model (/app/model/m.tflite)"
    other = application("/app/mode", ChangeKind.MTIME)
    assert cause(model, *folders, other) == "the model (/app/model/m.tflite); time stamps (/app/mode)"


@pytest.mark.parametrize(
    ("pcrs", "expected"),
    [
        (["PCR0", "PCR2"], "files (/a)"),
        (["PCR0", "PCR2", "PCR8"], "files (/a); the signature"),
    ],
)
def test_a_signature_is_a_cause_if_the_signer_is_another(pcrs: list[str], expected: str) -> None:
    assert likely_cause([application("/a"), section("signature")], pcrs) == expected


def test_a_signature_and_metadata_are_told_where_nothing_measured_changed() -> None:
    assert likely_cause([section("signature")], []) == "the signature only; no PCR changes"
    both = [section("metadata"), section("signature")]
    assert likely_cause(both, ["PCR8"]) == "the signature; the metadata"
