"""The folder of remotes: private, whole at every moment, and without a word of its secrets elsewhere."""

from __future__ import annotations

import resource
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from enclavectl.attestation.policy_file import render_policy
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.targets.remote_store import DamagedRemote, RemoteStore
from enclavectl.targets.remotes import Remote, RemoteContent
from enclavectl.targets.verification import VerificationOptions
from tests.in_process import expect, new_root

ROOT = new_root()
POLICY = render_policy(expect(ROOT).policy).encode()
CONTENT = RemoteContent(
    address="wss://Gateway.test",
    policy=POLICY,
    root=ROOT.certificate_pem,
    token=b"S3CRET\n",
    pin="sha256:" + "ab" * 32,
)
OPTIONS = VerificationOptions(policy=None, allow_debug=False)


@pytest.fixture
def store(tmp_path: Path) -> RemoteStore:
    return RemoteStore(tmp_path / "state")


def test_what_was_added_is_found(store: RemoteStore) -> None:
    added = store.add("hospital", CONTENT)
    assert store.find("hospital") == added
    assert added.content() == CONTENT
    assert added.address == "wss://gateway.test/v1"
    assert added.access().token == "S3CRET"
    assert [one.name for one in store.all()] == ["hospital"]


def test_everything_is_for_this_user_only(store: RemoteStore) -> None:
    store.add("hospital", CONTENT)
    paths = [store.folder, *store.folder.rglob("*")]
    assert len(paths) == 6
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_the_token_is_in_its_own_file_and_nowhere_else(store: RemoteStore) -> None:
    remote = store.add("hospital", CONTENT)
    holders = [path for path in store.folder.rglob("*") if path.is_file() and b"S3CRET" in path.read_bytes()]
    assert holders == [remote.files["token"]]
    assert "S3CRET" not in repr(remote) + repr(CONTENT) + str(remote.to_json())


def test_an_update_leaves_nothing_of_what_it_replaced(store: RemoteStore) -> None:
    store.add("hospital", CONTENT)
    changed = store.update("hospital", replace(CONTENT, token=b"OTHER", pin=None))
    assert changed.access().token == "OTHER"
    assert not any(b"S3CRET" in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert len(list((store.folder / "hospital").iterdir())) == 4


def test_an_update_that_was_cut_short_changes_nothing(store: RemoteStore) -> None:
    """The record names the old copies until its replacement is whole."""
    before = store.add("hospital", CONTENT)
    record = (store.folder / "hospital" / "remote.json").read_bytes()
    nitro = POLICY.replace(b"[simulated]", b"[nitro]")
    store.update("hospital", replace(CONTENT, policy=nitro, root=None))
    (store.folder / "hospital" / "remote.json").write_bytes(record)
    before.files["root"].write_bytes(ROOT.certificate_pem)
    before.files["policy"].write_bytes(POLICY)
    assert store.find("hospital") == before


def test_a_full_disk_leaves_no_copy_of_a_secret(store: RemoteStore) -> None:
    store.add("other", replace(CONTENT, token=b"OTHER"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))  # room for the token, none for the record
    try:
        with pytest.raises(HostError):
            store.add("hospital", CONTENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in store.folder.iterdir()] == ["other"]


class OvertakenStore(RemoteStore):
    """Another command replaces the policy right after the remote was found, once."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.updates = 0

    def find(self, name: str) -> Remote:
        found = super().find(name)
        if self.updates == 0:
            self.updates += 1
            RemoteStore(self.folder.parent).update(name, replace(CONTENT, policy=POLICY + b"# new\n"))
        return found


def test_a_command_that_runs_during_an_update_gets_all_parts(tmp_path: Path) -> None:
    store = OvertakenStore(tmp_path)
    store.add("hospital", CONTENT)
    assert store.target("hospital", OPTIONS).access.token == "S3CRET"
    assert store.updates == 1


def test_a_copy_that_is_gone_is_said(store: RemoteStore) -> None:
    files = store.add("hospital", CONTENT).files
    for word in ("token", "policy"):  # the policy is read first
        files[word].unlink()
        with pytest.raises(UsageError, match=f"no such {word}"):
            store.target("hospital", OPTIONS)


def test_two_of_one_name(store: RemoteStore) -> None:
    store.add("hospital", CONTENT)
    with pytest.raises(StateError) as info:
        store.add("hospital", replace(CONTENT, token=None))
    assert info.value.code == "remote-exists"
    assert store.find("hospital").content() == CONTENT
    assert store.names() == [path.name for path in store.folder.iterdir()]


def test_what_is_removed_is_gone(store: RemoteStore) -> None:
    store.add("hospital", CONTENT)
    store.set_default("hospital")
    store.remove("hospital")
    assert store.default() is None
    assert list(store.folder.iterdir()) == []
    with pytest.raises(StateError) as info:
        store.find("hospital")
    assert info.value.code == "no-such-remote"


def test_a_damaged_one_can_be_removed_as_its_error_advises(store: RemoteStore) -> None:
    store.add("hospital", CONTENT)
    store.set_default("hospital")
    (store.folder / "hospital" / "remote.json").write_text("")
    with pytest.raises(StateError) as info:
        store.find("hospital")
    assert info.value.code == "remote-damaged"
    assert "remote remove hospital" in str(info.value.hint)
    assert store.remove("hospital") is None
    assert list(store.folder.iterdir()) == []


def test_a_damaged_one_is_listed_beside_the_others(store: RemoteStore) -> None:
    store.add("clinic", CONTENT)
    store.add("hospital", CONTENT)
    (store.folder / "hospital" / "remote.json").write_text("{")
    clinic, hospital = store.all()
    assert isinstance(clinic, Remote)
    assert isinstance(hospital, DamagedRemote)
    assert (hospital.name, hospital.error.code) == ("hospital", "remote-damaged")


def test_the_default(store: RemoteStore) -> None:
    assert store.default() is None
    store.add("hospital", CONTENT)
    store.add("clinic", CONTENT)
    assert store.default() is None
    store.set_default("hospital")
    assert [one.name for one in store.all() if one.is_default] == ["hospital"]
    found = store.default()
    assert found is not None
    assert found.name == "hospital"
    store.set_default(None)
    assert store.default() is None
    with pytest.raises(StateError, match="clinic"):
        store.find("clinik")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "A", "a" * 64, "a b", "ä"])
def test_what_is_no_name(store: RemoteStore, name: str) -> None:
    with pytest.raises(UsageError, match="expected a name"):
        store.add(name, CONTENT)


@pytest.mark.parametrize(
    "change",
    [
        {"policy": b"accept: [nitro]"},
        {"policy": b"\xff" * 10},
        {"root": b"no certificate"},
        {"token": b"two words"},
        {"pin": "sha256:00"},
        {"address": "https://gateway.test"},
        {"address": "tls:gateway.test:1"},
        {"address": "unix:/run/a"},
        {"client_key": b"x"},
    ],
)
def test_what_cannot_be_used_is_not_stored(change: dict[str, bytes]) -> None:
    parts = {"address": CONTENT.address, "pin": CONTENT.pin, **CONTENT.copies(), **change}
    with pytest.raises(UsageError):
        RemoteContent(**parts)  # type: ignore[arg-type]  # mixed on purpose


def test_a_policy_that_nothing_under_the_root_meets_is_told_before_it_is_stored() -> None:
    """Else each command with the remote is refused, and the first to say so connects for it."""
    with pytest.raises(UsageError, match="accepts simulated, but AWS's root signs nitro") as info:
        replace(CONTENT, root=None)
    assert "--root" in str(info.value.hint)
    nitro = POLICY.replace(b"[simulated]", b"[nitro]")
    assert nitro != POLICY
    replace(CONTENT, root=None, policy=nitro)
    with pytest.raises(UsageError, match="accepts nitro, but the root that is given signs simulated"):
        replace(CONTENT, policy=nitro)


RECORD = (
    b'{"schema": "enclavectl.remote-record/1", "address": "wss://g.test/v1", "pin": null,'
    b' "files": %b, "changed": "2026-01-01T00:00:00+00:00"}'
)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b'{"schema": "enclavectl.remote-record/1"}',
        RECORD % b'{"policy": "../../../etc/passwd"}',
        RECORD % b"{}",
    ],
)
def test_a_damaged_record_says_so(store: RemoteStore, damage: bytes) -> None:
    store.add("hospital", CONTENT)
    (store.folder / "hospital" / "remote.json").write_bytes(damage)
    with pytest.raises(StateError) as info:
        store.find("hospital")
    assert info.value.code == "remote-damaged"
    assert info.value.hint is not None


def test_a_folder_that_others_may_write_is_not_believed(store: RemoteStore) -> None:
    store.add("hospital", CONTENT)
    store.folder.chmod(0o777)
    with pytest.raises(HostError):
        store.find("hospital")
