"""What ``--evidence`` keeps of one session or several, and what of it ever reaches the disk."""

from __future__ import annotations

import resource
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_payload.contents import key_config_digest
from enclavectl.cli.evidence_keeping import EvidenceKeeper, prepare_keeper
from enclavectl.cli.judgement_view import draw_verification
from enclavectl.cli.screen import Screen
from enclavectl.client.exchange import Expectation
from enclavectl.errors import HostError, UsageError
from enclavectl.evidence import Case, KeptReceipt, Receipted, Waiver, examine, parse_evidence_file
from enclavectl.evidence.file import parse_receipt_line
from enclavectl.evidence.keeping import append_line
from enclavectl.protocol.evidence import Evidence
from enclavectl.protocol.receipts import Claim
from tests.evidence import example
from tests.evidence.sessions import KEY_CONFIG, POLICY
from tests.evidence.test_receipts_in_verification import receipt_for
from tests.forge import NOW, EnclaveForge

SCREEN = Screen(as_json=False)
RECEIPTED = Receipted(receipt=b"receipt", request_statement=b"asked", answer_statement=b"told")


@pytest.fixture(scope="module")
def forge() -> EnclaveForge:
    return EnclaveForge()


def session(forge: EnclaveForge, nonce: bytes = bytes(32)) -> Evidence:
    return Evidence(forge.genuine(nonce=nonce, user_data=key_config_digest(KEY_CONFIG)), KEY_CONFIG)


def expectation(forge: EnclaveForge) -> Expectation:
    return Expectation(policy=POLICY, root=forge.root)


def keeping(
    path: Path, *, include_statements: bool = False, policy: Path | None = None, is_single: bool = False
) -> EvidenceKeeper:
    keeper = prepare_keeper(
        SCREEN, path, include_statements=include_statements, policy=policy, is_single=is_single
    )
    assert keeper is not None
    return keeper


def test_each_session_has_a_file_and_its_receipts_beside_it(tmp_path: Path, forge: EnclaveForge) -> None:
    path = tmp_path / "e.json"
    keeper = keeping(path)
    first, second = session(forge), session(forge, b"2" * 32)
    for index, evidence in enumerate((first, second, first)):
        number = keeper.session(evidence, NOW, expectation(forge), lock_sha256=None)
        keeper.receipt(number, RECEIPTED, index)
    keeper.receipt(0, None, 3)
    keeper.finish(SCREEN)
    names = ["e-2.json", "e-2.receipts.jsonl", "e.json", "e.receipts.jsonl"]
    assert sorted(found.name for found in tmp_path.iterdir()) == names
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
    kept = [parse_evidence_file((tmp_path / name).read_bytes()) for name in ("e.json", "e-2.json")]
    assert [one.document for one in kept] == [first.document, second.document]
    lines = (tmp_path / "e.receipts.jsonl").read_bytes().splitlines()
    assert [parse_receipt_line(line) for line in lines] == [KeptReceipt(receipt=b"receipt")] * 2


def test_one_receipt_is_told_as_one(
    tmp_path: Path, forge: EnclaveForge, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, receipts, told in (("a", 1, ", 1 receipt in "), ("b", 2, ", 2 receipts in ")):
        keeper = keeping(tmp_path / f"{name}.json")
        number = keeper.session(session(forge), NOW, expectation(forge), lock_sha256=None)
        for index in range(receipts):
            keeper.receipt(number, RECEIPTED, index)
        keeper.finish(SCREEN)
        assert told in capsys.readouterr().err


def test_one_answer_goes_into_the_file_with_its_statements_if_asked(
    tmp_path: Path, forge: EnclaveForge
) -> None:
    for include, statements in ((True, (b"asked", b"told")), (False, (None, None))):
        path = tmp_path / f"{include}.json"
        keeper = keeping(path, include_statements=include, is_single=True)
        number = keeper.session(session(forge), NOW, expectation(forge), lock_sha256=None)
        assert not path.exists(), "its receipt is not there yet"
        keeper.receipt(number, RECEIPTED, 0)
        keeper.finish(SCREEN)
        keeper.finish(SCREEN)  # as after an error: it was written already
        [receipt] = parse_evidence_file(path.read_bytes()).receipts
        assert (receipt.request_statement, receipt.answer_statement) == statements


def test_what_could_not_be_written_is_not_told_as_kept(
    tmp_path: Path, forge: EnclaveForge, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    keeper = keeping(folder / "e.json")
    folder.rmdir()
    with pytest.raises(HostError):
        keeper.session(session(forge), NOW, expectation(forge), lock_sha256=None)
    keeper.finish(SCREEN)
    assert "evidence kept" not in capsys.readouterr().err


def test_a_receipt_that_the_disk_does_not_take_spoils_none_before_it(tmp_path: Path) -> None:
    path, line = tmp_path / "e.receipts.jsonl", b"x" * 79 + b"\n"
    other = tmp_path / "other.receipts.jsonl"
    append_line(path, line, is_first=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk, the next write is taken in part only.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(HostError, match="cannot write"):
            append_line(path, line, is_first=False)
        with pytest.raises(HostError, match="cannot write"):
            append_line(other, line * 2, is_first=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == line
    assert not other.exists()
    append_line(path, line, is_first=False)
    assert path.read_bytes() == line * 2


def test_the_policy_is_kept_as_its_file_has_it(tmp_path: Path, forge: EnclaveForge) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("# reviewed by Ada\n")
    keeper = keeping(tmp_path / "e.json", policy=policy)
    keeper.session(session(forge), NOW, expectation(forge), lock_sha256=None)
    assert parse_evidence_file((tmp_path / "e.json").read_bytes()).policy == "# reviewed by Ada\n"


def test_a_session_is_kept_with_the_lock_of_its_enclaves_image(tmp_path: Path, forge: EnclaveForge) -> None:
    keeper = keeping(tmp_path / "e.json")
    for nonce, lock_sha256 in ((b"1" * 32, "ab" * 32), (b"2" * 32, None)):
        keeper.session(session(forge, nonce), NOW, expectation(forge), lock_sha256=lock_sha256)
    kept = [parse_evidence_file((tmp_path / name).read_bytes()) for name in ("e.json", "e-2.json")]
    assert [one.lock_sha256 for one in kept] == ["ab" * 32, None]


@pytest.mark.parametrize("there", ["e.json", "e.receipts.jsonl"])
def test_what_is_there_is_never_written_over(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(UsageError, match="expected nothing there"):
        keeping(tmp_path / "e.json")
    assert (tmp_path / there).read_text() == "mine"


def test_what_came_in_between_is_not_written_over_either(tmp_path: Path, forge: EnclaveForge) -> None:
    path = tmp_path / "e.json"
    keeper = keeping(path)
    path.write_text("mine")
    with pytest.raises(HostError):
        keeper.session(session(forge), NOW, expectation(forge), lock_sha256=None)
    assert [found.name for found in tmp_path.iterdir()] == ["e.json"]
    assert path.read_text() == "mine"


def test_text_of_strangers_commands_no_terminal(
    forge: EnclaveForge, capsys: pytest.CaptureFixture[str]
) -> None:
    document = forge.genuine(user_data=key_config_digest(KEY_CONFIG), public_key=example.PUBLIC_KEY)
    receipt = receipt_for(document, {Claim.MODEL_ID: "evil\x1b[2J\u202e"})
    case = Case(
        document=document,
        root=forge.root,
        policy=Waiver.NO_POLICY,
        at=Waiver.DOCUMENT_TIME,
        nonce=Waiver.NO_NONCE,
        receipts=(KeptReceipt(receipt=receipt),),
    )
    verification = examine(case)
    assert verification.verified
    assert verification.receipts[0].receipt.model_id.startswith("evil\x1b")
    draw_verification(Screen(as_json=False), replace(verification), "name\x1b")
    out = capsys.readouterr().out
    assert r"evil\x1b[2J\u202e" in out
    assert "\x1b" not in out
    assert "\u202e" not in out
