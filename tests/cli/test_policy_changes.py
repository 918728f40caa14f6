"""The commands below ``policy`` that write: new, add, retire, revoke."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enclave_payload.card import model_register
from enclavectl.attestation import Policy, Release, Trust
from enclavectl.attestation.policy_edit import EditedPolicy
from enclavectl.attestation.registers import instance_register, role_register
from enclavectl.cli.policy_change import PolicyChangeRequest, apply_change
from enclavectl.cli.screen import Screen
from enclavectl.errors import StateError
from enclavectl.models.find import PACKAGED_DIR, find_model
from tests.cli.command import COMMAND
from tests.cli.policies import COMMENT, REGISTERS, ROLE, lock_of, ok, policy_of, refused, run
from tests.forge import PCRS, EnclaveForge


def test_a_new_policy_has_the_registers_of_the_lock(folder: Path) -> None:
    ok(folder, "new", "--from-lock", "a.json", "--to", "new.yaml")
    policy = policy_of(folder, "new.yaml")
    [release] = policy.releases
    assert dict(release.pcrs) == PCRS
    assert release.name == f"app {release.label}"
    assert (policy.accept, policy.max_age) == (frozenset({Trust.NITRO}), timedelta(minutes=5))
    assert stat.S_IMODE((folder / "new.yaml").stat().st_mode) == 0o644


def test_a_new_policy_takes_every_option(folder: Path) -> None:
    value = ok(
        folder, "new", "--from-lock", "a.json", "--to", "new.yaml", "--model", "demo-lesion",
        "--pcr", "PCR20=" + "AB" * 48, "--role-arn", ROLE, "--instance-id", "i-0123456789abcdef0",
        "--name", "2.0", "--not-before", "2026-12-24", "--expires", "2127-06-30T12:00:00Z",
        "--notes", "by Ada", "--accept", "nitro", "--accept", "simulated", "--max-age", "60", "-o", "json",
    ).json()  # fmt: skip
    card = find_model("demo-lesion", data_dir=folder).card
    policy = policy_of(folder, "new.yaml")
    assert policy == Policy(
        accept=frozenset({Trust.NITRO, Trust.SIMULATED}),
        max_age=timedelta(seconds=60),
        releases=(
            Release(
                name="2.0",
                pcrs={
                    **PCRS,
                    3: role_register(ROLE),
                    4: instance_register("i-0123456789abcdef0"),
                    16: model_register(card.to_json()),
                    20: b"\xab" * 48,
                },
                not_before=datetime(2026, 12, 24, tzinfo=UTC),
                expires=datetime(2127, 6, 30, 12, tzinfo=UTC),
                notes="by Ada",
            ),
        ),
    )
    assert (value["written"], value["comments_kept"], value["command"]) == (True, True, "new")
    assert value["policy"]["releases"][0]["label"] == policy.releases[0].label


def test_what_is_risky_in_a_new_release_is_said(folder: Path) -> None:
    done = ok(folder, "new", "--from-lock", "a.json", "--name", "2.0", "--to", "new.yaml")
    assert done.err == ("enclavectl: release 2.0 does not pin PCR16: the image alone says which model\n")
    pins = ("--model", "demo-lesion", "--instance-id", "i-0123456789abcdef0", "--name", "2.1")
    done = ok(folder, "add", "p.yaml", "--from-lock", "b.json", *pins)
    assert done.err == "enclavectl: release 2.1 pins PCR4, so it passes on one instance only\n"


def test_a_policy_is_never_overwritten(folder: Path) -> None:
    assert "--to p.yaml: expected nothing there, found a file" in refused(
        folder, 2, "policy-exists", "new", "--from-lock", "a.json", "--to", "p.yaml"
    )
    (folder / "dangling.yaml").symlink_to("nowhere")
    refused(folder, 2, "policy-exists", "new", "--from-lock", "a.json", "--to", "dangling.yaml")


OTHER_MODEL = {"id": "other", "sha256": "ab" * 32}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected --from-lock LOCK, or --pcr"),
        (("--from-lock", "a.json", "--name", ""), "expected a name of 1 to"),
        (("--pcr", "0=ab"), "--pcr: expected N=HEX"),
        (("--pcr", "32=" + "ab" * 48), "--pcr: expected N=HEX, N from 0 to 31"),
        (("--pcr", "8=" + "ab" * 48, "--pcr", "PCR8=" + "ab" * 48), "--pcr: PCR8 is given twice"),
        (("--from-lock", "a.json", "--pcr", "0=" + "ab" * 48), "--pcr: PCR0 is abababab"),
        (("--from-lock", "a.json", "--role-arn", ROLE, "--pcr", "3=" + "ab" * 48), "--role-arn: PCR3 is"),
        (("--from-lock", "a.json", "--role-arn", "Webserver"), "role: expected an ARN"),
        (("--from-lock", "a.json", "--instance-id", "i-1"), "instance: expected an id"),
        (("--from-lock", "a.json", "--expires", "tomorrow"), "--expires: expected now, a date"),
        (("--from-lock", "a.json", "--accept", "debug"), "accept says who may sign"),
        (
            ("--from-lock", "a.json", "--accept", "aws"),
            "--accept: expected one of nitro, emulated, simulated",
        ),
        (
            ("--from-lock", "a.json", "--max-age", "10801"),
            "--max-age: expected a whole number from 1 to 10800, found 10801",
        ),
        (("--from-lock", "absent.json"), "absent.json: no such lock"),
        (("--from-lock", "p.yaml"), "expected a lock"),
        (("--from-lock", "odd.json"), "odd.json: pcrs: expected PCR0, PCR1"),
        (
            ("--from-lock", "model.json", "--model", "demo-lesion"),
            "--model: expected the model of model.json",
        ),
    ],
)
def test_what_makes_no_release_is_refused(folder: Path, words: tuple[str, ...], message: str) -> None:
    (folder / "odd.json").write_bytes(lock_of({"PCR0": "ab"}).to_bytes())
    (folder / "model.json").write_bytes(replace(lock_of(REGISTERS), model=OTHER_MODEL).to_bytes())
    done = run(folder, "new", "--to", "new.yaml", *words)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert not (folder / "new.yaml").exists()


@pytest.mark.parametrize(
    ("registers", "code"),
    [
        ({0: "ab", 1: "ab", 2: "00"}, "policy-zeros"),
        ({0: "ab", 1: "ab"}, "policy-pcrs"),
        ({16: "ab"}, "policy-model-alone"),
    ],
)
def test_a_release_that_breaks_a_rule_has_its_code(
    folder: Path, registers: dict[int, str], code: str
) -> None:
    words = [word for index, value in registers.items() for word in ("--pcr", f"{index}={value * 48}")]
    refused(folder, 2, code, "new", "--to", "new.yaml", *words)


@pytest.mark.parametrize("end", ["2026-01-31", "now"])
@pytest.mark.parametrize("command", [("new", "--to", "new.yaml"), ("add", "p.yaml")])
def test_a_release_that_has_expired_already_is_refused(
    folder: Path, command: tuple[str, ...], end: str
) -> None:
    """A year that was mistyped would make a policy that no enclave satisfies."""
    words = (*command, "--from-lock", "b.json", "--expires", end)
    said = refused(folder, 2, "policy-expired", *words)
    assert "--expires: expected a time later than now (" in said
    assert f"found {'2026-01-31T00:00:00Z' if end != 'now' else 'now'}" in said
    hint = str(run(folder, *words, "-o", "json").error()["hint"])
    assert "policy retire" in hint


def test_a_release_of_the_past_is_kept_by_retiring_it(folder: Path) -> None:
    """What the refusal says to do for documents that were kept."""
    ok(folder, "add", "p.yaml", "--from-lock", "b.json", "--name", "old")
    ok(folder, "retire", "p.yaml", "old", "--expires", "2026-01-31")
    old = policy_of(folder).releases[-1]
    assert (old.name, old.expires) == ("old", datetime(2026, 1, 31, tzinfo=UTC))


def test_a_life_that_ends_before_it_begins_is_a_contradiction(folder: Path) -> None:
    life = ("--not-before", "2127-02-01", "--expires", "2127-01-31")
    refused(folder, 2, "policy-contradiction", "add", "p.yaml", "--from-lock", "b.json", *life)


def test_the_card_of_the_image_s_own_model_is_pinned(folder: Path) -> None:
    card = find_model("demo-lesion", data_dir=folder).card
    own = replace(lock_of(REGISTERS), model={"id": card.model_id, "sha256": card.sha256})
    (folder / "own.json").write_bytes(own.to_bytes())
    ok(folder, "new", "--from-lock", "own.json", "--model", PACKAGED_DIR, "--to", "new.yaml")
    assert policy_of(folder, "new.yaml").releases[0].pcrs[16] == model_register(card.to_json())
    (folder / "own.json").write_bytes(replace(own, pcrs={**REGISTERS, "PCR16": "ab" * 48}).to_bytes())
    done = run(folder, "new", "--from-lock", "own.json", "--model", "demo-lesion", "--to", "x.yaml")
    assert done.status == 2
    assert "--model: PCR16 is" in done.err


def test_a_release_is_added_and_the_comment_stays(folder: Path) -> None:
    value = ok(folder, "add", "p.yaml", "--from-lock", "b.json", "--name", "1.1", "-o", "json").json()
    assert [one.name for one in policy_of(folder).releases] == ["1.0", "1.1"]
    assert (folder / "p.yaml").read_text().startswith(COMMENT)
    assert (value["did"], value["written"], value["comments_kept"]) == ("added release 1.1", True, True)


def test_the_same_registers_are_not_added_under_a_second_name(folder: Path) -> None:
    words = ("add", "p.yaml", "--from-lock", "b.json", "--name")
    ok(folder, *words, "1.1")
    assert "found those of release 1.1" in refused(folder, 2, "registers-taken", *words, "1.2")
    ok(folder, "retire", "p.yaml", "1.1")


def test_a_release_that_has_ended_needs_nothing_more(folder: Path) -> None:
    ok(folder, "retire", "p.yaml", "1.0", "--expires", "2026-01-31")
    said = refused(folder, 2, "ended-already", "retire", "p.yaml", "1.0")
    assert said == "p.yaml: release 1.0 has ended already, at 2026-01-31T00:00:00Z"
    assert "nothing is to be done" in run(folder, "retire", "p.yaml", "1.0").err
    # A later end would give it life again, which is for an editor to write.
    refused(folder, 2, "longer-life", "retire", "p.yaml", "1.0", "--expires", "2127-01-31")


EDITS = {
    "add": ("add", "p.yaml", "--from-lock", "b.json", "--name", "1.1"),
    "retire": ("retire", "p.yaml", "1.0", "--expires", "2027-01-31"),
    "revoke": ("revoke", "p.yaml", "1.0", "--reason", "a leak", "--date", "2027-01-31"),
    "new": ("new", "--from-lock", "a.json", "--to", "new.yaml"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_dry_run_shows_the_change_and_makes_none(folder: Path, edit: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    text = ok(folder, *EDITS[edit], "--dry-run").out
    value = ok(folder, *EDITS[edit], "--dry-run", "--output", "json").json()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert value["written"] is False
    added = [line for line in text.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert added
    assert not [line for line in text.splitlines() if line.startswith("-") and not line.startswith("---")]
    ok(folder, *EDITS[edit])
    name = "new.yaml" if edit == "new" else "p.yaml"
    written = (folder / name).read_text().splitlines()
    assert all(line[1:] in written for line in added)


@pytest.mark.parametrize("edit", ["add", "retire", "revoke"])
def test_an_edit_keeps_the_link_and_the_mode_of_the_file(folder: Path, edit: str) -> None:
    (folder / "p.yaml").rename(folder / "real.yaml")
    (folder / "p.yaml").symlink_to("real.yaml")
    (folder / "real.yaml").chmod(0o640)
    ok(folder, *EDITS[edit])
    assert (folder / "p.yaml").is_symlink()
    assert stat.S_IMODE((folder / "real.yaml").stat().st_mode) == 0o640
    assert [path.name for path in folder.glob(".enclavectl-*")] == []


def test_a_file_that_cannot_be_edited_in_place_says_so_and_keeps_its_notes(folder: Path) -> None:
    pcrs = ", ".join(f"{name}: '{value}'" for name, value in REGISTERS.items())
    head = "# mine\nschema: enclavectl.policy/2\naccept: [nitro]\n"
    (folder / "p.yaml").write_text(f"{head}releases: [{{name: '1.0', notes: by Ada, pcrs: {{{pcrs}}}}}]\n")
    done = ok(folder, "add", "p.yaml", "--from-lock", "b.json", "--name", "1.1", "--output", "json")
    assert "p.yaml: its form cannot be edited in place, so it lost its comments" in done.err
    assert done.json()["comments_kept"] is False
    assert policy_of(folder).releases[0].notes == "by Ada"


def test_a_retired_release_passes_until_its_end(folder: Path) -> None:
    ok(folder, "retire", "p.yaml", "1.0", "--expires", "2027-01-31")
    assert policy_of(folder).releases[0].expires == datetime(2027, 1, 31, tzinfo=UTC)
    refused(folder, 2, "longer-life", "retire", "p.yaml", "1.0", "--expires", "2027-02-01")
    assert "it has: 1.0" in refused(folder, 2, "no-such-release", "retire", "p.yaml", "2.0")


def test_retired_without_a_time_it_ends_now(folder: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    ok(folder, "retire", "p.yaml", policy_of(folder).releases[0].label)
    expires = policy_of(folder).releases[0].expires
    assert expires is not None
    assert before <= expires <= datetime.now(UTC)


def test_a_revoked_release_is_refused_at_any_time(folder: Path) -> None:
    (folder / "d.bin").write_bytes(EnclaveForge().genuine())
    assert ok(folder, "explain", "p.yaml", "d.bin", "--at", "document").status == 0
    done = ok(folder, "revoke", "p.yaml", "1.0", "--reason", "a leak", "--date", "2027-01-31", "-o", "json")
    label = policy_of(folder).releases[0].label
    assert done.json()["did"] == f"revoked 1.0 (label {label})"
    assert done.json()["policy"]["releases"][0]["state"] == "revoked"
    explained = run(folder, "explain", "p.yaml", "d.bin", "--at", "document", "--output", "json")
    assert (explained.status, explained.json()["refusal"]["code"]) == (4, "release-revoked")
    assert explained.json()["revocation"]["reason"] == "a leak"
    assert explained.json()["releases"][0]["matches"] is True


def test_a_label_and_a_tuple_are_revoked_as_well(folder: Path) -> None:
    elsewhere = ok(folder, "revoke", "p.yaml", "0123456789abcdef", "--reason", "elsewhere")
    own = policy_of(folder).releases[0].label
    # As after a typing error, every release stays valid, and that is said.
    assert elsewhere.err == f"enclavectl: no release of p.yaml has this label; it has: {own} (1.0)\n"
    assert "revoked label 0123456789abcdef, of no release here" in elsewhere.out
    tuple_words = ("--pcr", "16=" + "ab" * 48, "--reason", "weights", "--output", "json")
    other = ok(folder, "revoke", "p.yaml", *tuple_words)
    assert other.err.startswith("enclavectl: no release of p.yaml pins this PCR16, so all of them stay")
    assert other.json()["did"] == "revoked PCR16, of no release here"
    label, weights = policy_of(folder).revoked
    assert (label.label, weights.pcrs) == ("0123456789abcdef", {16: b"\xab" * 48})
    kernel = ok(folder, "revoke", "p.yaml", "--pcr", f"1={REGISTERS['PCR1']}", "--reason", "kernel")
    assert "revoked PCR1, and so 1.0" in kernel.out
    assert kernel.err == ""
    refused(folder, 2, "policy-format", "revoke", "p.yaml", "0123456789abcdef", "--reason", "again")


@pytest.mark.parametrize(
    ("words", "found"), [((), "found neither"), (("1.0", "--pcr", "16=" + "ab" * 48), "found both")]
)
def test_what_to_revoke_is_said_in_one_way(folder: Path, words: tuple[str, ...], found: str) -> None:
    assert found in refused(folder, 2, "usage", "revoke", "p.yaml", *words, "--reason", "r")


def test_revocations_at_once_are_kept_or_refused_but_never_lost(folder: Path) -> None:
    labels = [f"{number:016x}" for number in range(1, 5)]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda one: run(folder, "revoke", "p.yaml", one, "--reason", "leaked"), labels))
    assert {one.status for one in done} <= {0, 6}
    kept = {one.label for one in policy_of(folder).revoked}
    assert kept >= {label for label, one in zip(labels, done, strict=True) if one.status == 0}
    assert kept.isdisjoint(label for label, one in zip(labels, done, strict=True) if one.status != 0)


def test_a_file_that_changed_meanwhile_is_not_written_over(folder: Path) -> None:
    path = folder / "p.yaml"
    text = path.read_text()
    path.write_text(f"{text}# Reviewed meanwhile.\n")
    request = PolicyChangeRequest(
        command="revoke",
        path=path,
        before=text,
        after=EditedPolicy(text=text, policy=policy_of(folder), is_rewritten=False),
        did="",
        is_dry_run=False,
    )
    with pytest.raises(StateError) as info:
        apply_change(Screen(as_json=False), request)
    assert info.value.code == "policy-changed"
    assert path.read_text() == f"{text}# Reviewed meanwhile.\n"


def test_a_change_leaves_the_file_to_the_service_that_reads_it(folder: Path) -> None:
    path = folder / "p.yaml"
    other = next((one for one in os.getgroups() if one != os.getegid()), None)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    elif other is not None:
        os.chown(path, -1, other)
    else:
        pytest.skip("this user has one group only")
    path.chmod(0o640)
    before = path.stat()
    ok(folder, "revoke", "p.yaml", "1.0", "--reason", "a leak")
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert after.st_ino != before.st_ino


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
def test_a_file_of_a_user_that_is_not_in_this_namespace_is_changed_all_the_same(folder: Path) -> None:
    """A rootless container has the file of a user that it cannot name: a leak is revoked there too."""
    alone = ["unshare", "--map-root-user"]
    if subprocess.run([*alone, "true"], check=False).returncode != 0:
        pytest.skip("this system has no user namespaces")
    path = folder / "p.yaml"
    os.chown(path, 12, 34)
    path.chmod(0o644)
    words = [*alone, str(COMMAND), "policy", "revoke", "p.yaml", "1.0", "--reason", "a leak"]
    subprocess.run(words, cwd=folder, env={**os.environ, "HOME": str(folder)}, check=True)
    assert "a leak" in path.read_text()
