"""``enclavectl policy kms``, ``kms-lint`` and ``kms-explain``, through the installed command."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from enclavectl.attestation import Policy, Release, Revocation, Trust, render_policy
from enclavectl.attestation.times import parse_time
from tests.artifacts.test_lock import LOCK
from tests.cli.command import Done, enclavectl
from tests.forge import EnclaveForge
from tests.kms.situations import ADMIN, KEY, OPERATOR, OWNER, PARENT, RELEASE_A, A, B

CONTEXT = ("--context", "model=demo-lesion", "--context", "file=0011")
WHO = ("--admin", ADMIN, "--parent", PARENT)
NOW = ("--at", "2026-05-04T12:00:00Z")


def write_policy(folder: Path, **edits: Any) -> Path:
    release = Release(name="A", pcrs=A, expires=RELEASE_A.expires)
    members: dict[str, Any] = {"accept": frozenset({Trust.NITRO}), "releases": (release,), **edits}
    path = folder / "policy.yaml"
    path.write_text(render_policy(Policy(**members)))
    return path


def compiled(folder: Path, *more: object) -> Done:
    return enclavectl("policy", "kms", "--policy", "policy.yaml", *WHO, *CONTEXT, *NOW, *more, home=folder)


def lint(folder: Path, *more: object) -> Done:
    return enclavectl("policy", "kms-lint", "key-policy.json", *NOW, "--output", "json", *more, home=folder)


def explain(folder: Path, *more: object) -> Done:
    words = ("policy", "kms-explain", "key-policy.json", *more, *NOW, "--output", "json")
    return enclavectl(*words, home=folder)


def document_with(pcrs: Mapping[int, bytes]) -> bytes:
    """A document of an enclave that has locked PCR16 as well."""
    return EnclaveForge().forged(lambda plan: plan.set("pcrs", dict(pcrs)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy, its key policy, and documents of the right enclave and of others."""
    folder = tmp_path_factory.mktemp("made")
    write_policy(folder)
    assert compiled(folder).status == 0
    documents = {"good": A, "mixed": {**A, 2: B[2]}, "plain": {index: A[index] for index in (0, 1, 2)}}
    for name, pcrs in documents.items():
        (folder / f"{name}.bin").write_bytes(document_with(pcrs))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder, for one test."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_key_policy_is_written_whole_and_the_same_again(tmp_path: Path) -> None:
    write_policy(tmp_path)
    first = compiled(tmp_path, "--to", "one.json", "--output", "json", "--key", KEY).json()
    compiled(tmp_path, "--to", "two.json")
    data = (tmp_path / "one.json").read_bytes()
    assert data == (tmp_path / "two.json").read_bytes()
    assert json.loads(data) == first["key_policy"]
    assert first["bytes"] == len(data)
    assert first["releases"] == [
        {"name": "A", "sid": RELEASE_A.sid, "not_before": None, "expires": "2027-01-31T00:00:00+00:00"}
    ]
    assert first["iam_policy"]["Statement"][0]["Resource"] == KEY
    assert len(first["commands"]) == 2
    assert oct((tmp_path / "one.json").stat().st_mode & 0o777) == "0o644"


def test_the_text_tells_the_owner_and_the_operator_what_to_do(tmp_path: Path) -> None:
    write_policy(tmp_path)
    done = compiled(tmp_path)
    assert (done.status, done.err) == (0, "")
    assert "aws kms put-key-policy --key-id KEY-ARN" in done.out
    assert "aws iam put-role-policy --role-name EnclaveParent" in done.out
    assert "bypass" not in done.out
    # What the printed command reads is there.
    [named] = re.findall(r"--policy-document file://(\S+)", done.out)
    assert named == "key-policy.iam.json"
    statements = json.loads((tmp_path / named).read_text())["Statement"]
    assert statements == [{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "KEY-ARN"}]


def test_no_command_writes_over_what_it_reads(folder: Path) -> None:
    (folder / "same.json").symlink_to("key-policy.json")
    before = (folder / "policy.yaml").read_bytes(), (folder / "key-policy.json").read_bytes()
    assert compiled(folder, "--force", "--to", "policy.yaml").status == 2
    assert compiled(folder, "--force", "--iam-to", "policy.yaml").status == 2
    assert compiled(folder, "--force", "--iam-to", "key-policy.json").status == 2
    for target in ("key-policy.json", "same.json"):
        refused = lint(folder, "--fixed-to", target)
        assert (refused.status, "not an input" in str(refused.error()["message"])) == (2, True)
    assert ((folder / "policy.yaml").read_bytes(), (folder / "key-policy.json").read_bytes()) == before
    (folder / "mine.json").write_text("{}")
    assert lint(folder, "--fixed-to", "mine.json").status == 2
    assert (folder / "mine.json").read_text() == "{}"


def test_a_file_that_exists_is_replaced_only_by_force_and_a_dry_run_writes_none(folder: Path) -> None:
    before = (folder / "key-policy.json").read_bytes()
    again = compiled(folder, "--output", "json")
    assert (again.status, again.error()["hint"]) == (6, "--force replaces it")
    assert compiled(folder, "--force", "--irrevocable").status == 0
    after = (folder / "key-policy.json").read_bytes()
    assert b"PutKeyPolicy" in before
    assert b"PutKeyPolicy" not in after
    dry = compiled(folder, "--dry-run", "--to", "new.json")
    assert "OwnerAdmin" in dry.out
    assert not (folder / "new.json").exists()


def test_a_key_in_the_operators_account_is_said_to_be_the_operators(tmp_path: Path) -> None:
    write_policy(tmp_path)
    who = ("--admin", ADMIN, "--parent", PARENT.replace(OPERATOR, OWNER))
    done = enclavectl("policy", "kms", "--policy", "policy.yaml", *who, *CONTEXT, *NOW, home=tmp_path)
    assert done.status == 0
    assert "(K32)" in done.err


def test_releases_that_are_left_out_are_named(tmp_path: Path) -> None:
    gone = parse_time("2026-05-01")
    releases = (Release(name="A", pcrs=A), Release(name="B", pcrs=B, expires=gone))
    write_policy(tmp_path, releases=releases, revoked=(Revocation(date=gone, reason="a leak", pcrs=B),))
    found = compiled(tmp_path, "--dry-run")
    assert "release B is left out: revoked" in found.err
    assert "release A never expires" in found.err
    as_json = compiled(tmp_path, "--output", "json").json()
    assert as_json["left_out"] == [{"name": "B", "state": "revoked"}]


@pytest.mark.parametrize(
    ("code", "edits"),
    [
        ("policy-trust", {"accept": frozenset({Trust.NITRO, Trust.SIMULATED})}),
        ("policy-trust", {"accept": frozenset({Trust.EMULATED})}),
        ("policy-debug", {"unsafe_allow_debug": True}),
        (
            "no-model-register",
            {"releases": (Release(name="A", pcrs={index: A[index] for index in (0, 1, 2)}),)},
        ),
        ("no-release", {"releases": (Release(name="A", pcrs=A, expires=parse_time("2026-05-04")),)}),
    ],
    ids=["simulated", "emulated", "debug", "no-pcr16", "expired"],
)
def test_a_policy_that_would_release_too_much_leaves_no_file(
    tmp_path: Path, code: str, edits: dict[str, Any]
) -> None:
    write_policy(tmp_path, **edits)
    done = compiled(tmp_path, "--output", "json")
    assert (done.status, done.error()["code"]) == (2, code)
    assert done.error()["hint"]
    assert not (tmp_path / "key-policy.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--parent", PARENT, "--context", "a=b"), "--admin"),
        (("--admin", ADMIN, "--context", "a=b"), "--parent"),
        (("--admin", ADMIN, "--parent", PARENT), "context"),
        ((*WHO, "--context", "model"), "NAME=VALUE"),
        ((*WHO, "--context", "a=b", "--context", "a=c"), "twice"),
        ((*WHO, "--context", "a=b", "--key", "alias/weights"), "the ARN of a key"),
        ((*WHO, "--context", "a=b", "--key", KEY.replace(OWNER, OPERATOR)), "the key's own account only"),
        (("--admin", "*", "--parent", PARENT, "--context", "a=b"), "role or a user"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    write_policy(tmp_path)
    done = enclavectl("policy", "kms", "--policy", "policy.yaml", *words, home=tmp_path)
    assert done.status == 2
    assert said in done.err
    assert not (tmp_path / "key-policy.json").exists()


def test_what_was_compiled_is_clean_with_every_fact(folder: Path) -> None:
    assert lint(folder).json()["clean"] is True
    facts = ("--policy", "policy.yaml", *WHO, *CONTEXT)
    done = lint(folder, *facts)
    assert (done.status, [one["rule"] for one in done.json()["findings"]]) == (0, ["K40"])


def test_the_lint_uses_each_fact(folder: Path) -> None:
    key = {
        "Arn": KEY, "AWSAccountId": OPERATOR, "Enabled": True, "MultiRegion": True, "Origin": "AWS_KMS",
        "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT",
    }  # fmt: skip
    (folder / "key.json").write_text(json.dumps({"KeyMetadata": key}))
    (folder / "grants.json").write_text('{"Grants": [{"GrantId": "g1"}]}')
    write_policy(folder, releases=(Release(name="B", pcrs=B),))
    facts = ("--policy", "policy.yaml", "--key-metadata", "key.json", "--grants", "grants.json")
    done = lint(folder, *facts, "--admin", PARENT)
    assert done.status == 2
    assert (
        {"K28", "K29", "K31", "K32", "K33", "K34"}
        >= {one["rule"] for one in done.json()["findings"]}
        > {"K31"}
    )
    found = {one["rule"] for one in lint(folder, *facts, "--key", "alias/weights").json()["findings"]}
    assert found == {"K31", "K32", "K33", "K34", "K35", "K40"}


def test_the_lint_says_what_to_write_instead(folder: Path) -> None:
    policy = json.loads((folder / "key-policy.json").read_bytes())
    del policy["Statement"][2]["Condition"]["StringEqualsIgnoreCase"]
    policy["Statement"] = policy["Statement"][:3]
    (folder / "key-policy.json").write_text(json.dumps(policy))
    done = lint(folder, "--policy", "policy.yaml")
    finding = next(one for one in done.json()["findings"] if one["rule"] == "K01")
    assert (done.status, finding["severity"], finding["statement"]) == (2, "error", 3)
    fixed = lint(folder, "--policy", "policy.yaml", "--fixed-to", "fixed.json").json()["fixed_to"]
    policy["Statement"][2:3] = finding["fixed"]
    assert json.loads((folder / fixed).read_bytes()) == policy
    shutil.copy(folder / fixed, folder / "key-policy.json")
    assert lint(folder, "--policy", "policy.yaml").status == 0
    text = enclavectl("policy", "kms-lint", "key-policy.json", home=folder)
    assert text.out.startswith("info K40")
    assert "clean (0 error, 0 warning, 1 info)" in text.out


def test_text_of_a_finding_has_its_reason_and_its_fixed_text(folder: Path) -> None:
    statement = {
        "Sid": "\x1b[31mUse",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "kms:Decrypt",
        "Resource": "*",
    }
    (folder / "key-policy.json").write_text(json.dumps({"Statement": statement}))
    done = enclavectl("policy", "kms-lint", "key-policy.json", home=folder)
    assert done.status == 2
    assert "\x1b" not in done.out
    assert "error K20" in done.out
    assert '"kms:RecipientAttestation:PCR16": "<PCR16>"' in done.out
    assert "NOT CLEAN" in done.out


def test_the_right_enclave_is_let_through_by_its_release(folder: Path) -> None:
    done = explain(folder, "good.bin", "--principal", PARENT, *CONTEXT, "--key", KEY)
    assert (done.status, done.json()["allowed"]) == (0, True)
    assert done.json()["decided_by"]["sid"] == RELEASE_A.sid


@pytest.mark.parametrize(
    ("arguments", "sid", "key"),
    [
        (("mixed.bin", *CONTEXT), RELEASE_A.sid, "kms:RecipientAttestation:PCR2"),
        (("plain.bin", *CONTEXT), RELEASE_A.sid, "kms:RecipientAttestation:PCR16"),
        (CONTEXT, "Guard", "kms:RecipientAttestation:PCR0"),
        (("good.bin", "--context", "model=demo-lesion"), RELEASE_A.sid, "kms:EncryptionContext:file"),
        (("good.bin", *CONTEXT, "--without-iam", "--key", KEY), RELEASE_A.sid, None),
        (("good.bin", *CONTEXT, "--action", "kms:createGrant"), "Never", None),
        (("good.bin", *CONTEXT, "--action", "Sign"), None, None),
    ],
    ids=["mixed", "unlocked-16", "no-document", "context", "iam", "grant", "sign"],
)
def test_a_refused_call_names_the_statement_and_the_key(
    folder: Path, arguments: tuple[str, ...], sid: str | None, key: str | None
) -> None:
    done = explain(folder, *arguments, "--principal", PARENT)
    assert (done.status, done.json()["allowed"]) == (4, False)
    assert (done.json()["decided_by"]["sid"], done.json()["decided_by"]["key"]) == (sid, key)


def test_a_document_counts_in_every_spelling_and_at_its_own_time(folder: Path) -> None:
    data = (folder / "good.bin").read_bytes()
    (folder / "good.hex").write_text(data.hex())
    (folder / "good.b64").write_bytes(base64.encodebytes(data))
    for name in ("good.hex", "good.b64"):
        assert explain(folder, name, "--principal", PARENT, *CONTEXT).status == 0
    call = ("policy", "kms-explain", "key-policy.json", "good.bin", "--principal", PARENT, *CONTEXT)
    assert enclavectl(*call, "--at", "document", home=folder).status == 0
    late = enclavectl(*call, "--at", "2027-01-31", home=folder)
    assert late.status == 4
    assert "aws:CurrentTime does not fit" in late.out
    assert "assumed: KMS also checks the document's signature" in late.err


def test_another_condition_key_can_be_told(folder: Path) -> None:
    where = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    policy = json.loads((folder / "key-policy.json").read_bytes())
    policy["Statement"][2]["Condition"] |= where
    (folder / "key-policy.json").write_text(json.dumps(policy))
    call = ("good.bin", "--principal", PARENT, *CONTEXT)
    refused = explain(folder, *call)
    assert refused.json()["decided_by"]["key"] == "aws:SourceIp"
    assert "the call has no aws:SourceIp" in refused.json()["assumptions"]
    assert explain(folder, *call, "--condition", "aws:SourceIp=192.0.2.7").status == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--principal", f"arn:aws:iam::{OWNER}:root"), "role or a user"),
        (("--principal", PARENT, "--action", "Decript"), "nearest known one is 'Decrypt'"),
        (("--principal", PARENT, "--at", "document"), "expected a document"),
        (("--principal", PARENT, "--at", "soon"), "--at"),
        (("--principal", PARENT, "--key", "alias/x"), "the ARN of a key"),
        (("none.bin", "--principal", PARENT), "no such document"),
        ((), "--principal"),
    ],
)
def test_a_call_that_cannot_be_is_refused_before_it_is_judged(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = enclavectl("policy", "kms-explain", "key-policy.json", *arguments, home=folder)
    assert done.status == 2
    assert said in done.err
    assert done.out == ""


def test_a_file_that_is_no_key_policy_is_refused_by_both_readers(folder: Path) -> None:
    (folder / "key-policy.json").write_text("x" * 40_000)
    assert lint(folder).error()["code"] == "key-policy-json"
    assert explain(folder, "--principal", PARENT).error()["code"] == "key-policy-size"
    (folder / "key-policy.json").write_text("x" * 200_000)
    assert lint(folder).status == 2


def test_a_lock_that_names_no_code_is_no_fact(folder: Path) -> None:
    (folder / "odd.json").write_bytes(replace(LOCK, pcrs={}).to_bytes())
    done = lint(folder, "--lock", "odd.json")
    assert (done.status, "odd.json: pcrs: expected PCR0, PCR1, PCR2" in done.err) == (2, True), done.err


def test_a_condition_and_a_time_are_told_as_this_command_takes_them(folder: Path) -> None:
    words = ("policy", "kms-explain", "key-policy.json", "--principal", PARENT)
    done = enclavectl(*words, "--condition", "foo", home=folder)
    assert (done.status, "such as --condition aws:SourceIp=192.0.2.1" in done.err) == (2, True), done.err
    for command in (words, ("policy", "explain", "policy.yaml", "good.bin")):
        done = enclavectl(*command, "--at", "2026", home=folder)
        assert "--at: expected now, document, a date (" in done.err
        assert done.status == 2
