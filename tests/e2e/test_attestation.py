"""Enclaves that cannot be verified: exit 4, a code of its own for each, and not one byte of a picture."""

from __future__ import annotations

import os
import shutil
import sysconfig
import venv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import enclave_payload
import enclavectl
from enclavectl.attestation import Policy, Release, Trust, render_policy
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.net.address import UnixAddress
from tests.e2e.cli import Cli, sample
from tests.evil import (
    CHALLENGE_FRAME_BYTES,
    Lies,
    Script,
    enclave_script,
    other_key_config,
    raw_script,
    start_evil,
)
from tests.in_process import CARD, PCRS, new_root, simulated_nsm

OTHER_CARD = replace(CARD, notice="A diagnosis.")
OTHER_IMAGE = {**PCRS, 2: b"\xaa" * 48}
ZEROS = dict.fromkeys(PCRS, bytes(48))


def honest(root: DevelopmentRoot) -> Script:
    return enclave_script(simulated_nsm(root), Lies())


def lying(lies: Lies) -> Callable[[DevelopmentRoot], Script]:
    return lambda root: enclave_script(simulated_nsm(root), lies)


def replaying(root: DevelopmentRoot) -> Script:
    """Whoever recorded the evidence of another session, whose nonce was another."""
    return enclave_script(simulated_nsm(root), Lies(nonce=lambda _nonce: bytes(range(32))))


EVIL: dict[str, tuple[Callable[[DevelopmentRoot], Script], str, str]] = {
    "old nonce": (replaying, "nonce", "nonce: expected "),
    "foreign root": (lambda _root: honest(new_root()), "chain-root", "root"),
    "swapped keys": (lying(Lies(key_config=other_key_config)), "user-data", "user_data: expected "),
    "zero PCRs": (
        lambda root: enclave_script(simulated_nsm(root, ZEROS), Lies()),
        "debug-mode",
        "PCR0, PCR1 and PCR2 are all zero: the enclave runs in debug mode",
    ),
    "other image": (
        lambda root: enclave_script(simulated_nsm(root, OTHER_IMAGE), Lies()),
        "pcr-mismatch",
        "PCR2: expected 0303030303030303",
    ),
    "other card": (
        lambda root: enclave_script(simulated_nsm(root, pinned=OTHER_CARD), Lies()),
        "model-register",
        "PCR16: expected ",
    ),
    "garbage": (lying(Lies(document=lambda _document: b"garbage")), "cbor", "byte"),
    "changed byte": (
        lying(Lies(document=lambda document: document[:-1] + bytes([document[-1] ^ 1]))),
        "signature",
        "signature",
    ),
    "no receipt key": (
        lying(Lies(receipt_key=bytes(294))),
        "no-receipt-key",
        "expected an Ed25519 key of 32 bytes in a session's document, found 294 bytes",
    ),
    "too long": (
        lying(Lies(document=lambda document: document + bytes(30_000))),
        "evidence-form",
        "too long",
    ),
}


def write_trust(folder: Path, root: DevelopmentRoot) -> Sequence[str | Path]:
    """The options that make a client trust ``root`` and the image with ``PCRS``."""
    policy = Policy(accept=frozenset({Trust.SIMULATED}), releases=(Release(name="good", pcrs=PCRS),))
    (folder / "policy.yaml").write_text(render_policy(policy))
    (folder / "root.pem").write_bytes(root.certificate_pem)
    return ("--policy", folder / "policy.yaml", "--root", folder / "root.pem")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Commands that start nothing."""
    return Cli(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("command", ["diagnose", "send"])
@pytest.mark.parametrize("name", EVIL)
def test_an_evil_enclave_gets_the_challenge_and_nothing_more(
    plain: Cli, tmp_path: Path, name: str, command: str
) -> None:
    make_script, code, words = EVIL[name]
    root, address = new_root(), UnixAddress(tmp_path / "s")
    with start_evil(address, make_script(root)) as evil:
        trust = write_trust(tmp_path, root)
        error = plain.refused(4, command, sample("bcc"), "--connect", str(address), *trust)
    assert (error["kind"], error["code"]) == ("attestation", code)
    assert words in error["message"]
    assert error["hint"]
    assert len(evil.received) == CHALLENGE_FRAME_BYTES
    assert not list(plain.base.rglob("pending/*"))


def test_every_lie_has_a_message_of_its_own() -> None:
    codes = [code for _, code, _ in EVIL.values()]
    assert len(set(codes)) == len(codes)


def test_an_honest_enclave_gets_the_pictures(plain: Cli, tmp_path: Path) -> None:
    root, address = new_root(), UnixAddress(tmp_path / "s")
    with start_evil(address, enclave_script(simulated_nsm(root), Lies(answers=5))) as counted:
        trust = write_trust(tmp_path, root)
        value = plain.ok("diagnose", sample("bcc"), "--connect", str(address), *trust, "-o", "json").json()
    assert value["results"][0]["label"]["code"] == "light"
    picture = sample("bcc").read_bytes()
    assert len(counted.received) > CHALLENGE_FRAME_BYTES + len(picture)
    assert picture[1000:1032] not in counted.received, "sealed"


def flipped(receipt: bytes) -> bytes:
    """A receipt with another signature."""
    return receipt[:-1] + bytes([receipt[-1] ^ 1])


@pytest.mark.parametrize("output", ["json", "text"])
@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (lambda _: None, "receipt-missing"),
        (lambda _: b"", "receipt-size"),
        (lambda receipt: receipt[1:], "receipt-tag"),
        (flipped, "receipt-signature"),
    ],
    ids=["none", "empty", "no tag", "another signature"],
)
def test_an_answer_with_a_wrong_receipt_is_not_shown(
    plain: Cli, tmp_path: Path, lie: Callable[[bytes], bytes | None], code: str, output: str
) -> None:
    root, address = new_root(), UnixAddress(tmp_path / "s")
    script = enclave_script(simulated_nsm(root), Lies(answers=5, receipt=lie))
    options = ["--connect", str(address), *write_trust(tmp_path, root)]
    with start_evil(address, script):
        if output == "json":
            error = plain.refused(4, "diagnose", sample("bcc"), *options)
            assert (error["kind"], error["code"]) == ("attestation", code)
            assert error["hint"]
        else:
            ran = plain.run("diagnose", sample("bcc"), *options)
            assert ran.status == 4
            assert "%" not in ran.out
            assert "receipt" in ran.err


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (raw_script(b"HTTP/1.1 400 Bad Request\r\n\r\n", hang_up=False), "peer-protocol"),
        (raw_script(b"\xff\xff\xff\xff\x02", hang_up=False), "peer-protocol"),
        (raw_script(b"\0\0\x10\0\x02half", hang_up=True), "enclave-lost"),
        (raw_script(b"", hang_up=True), "enclave-lost"),
    ],
    ids=["garbage", "4 GiB", "half a frame", "hangs up"],
)
def test_a_peer_that_is_no_enclave(plain: Cli, tmp_path: Path, script: Script, code: str) -> None:
    address = UnixAddress(tmp_path / "s")
    with start_evil(address, script) as peer:
        trust = write_trust(tmp_path, new_root())
        error = plain.refused(5, "diagnose", sample("bcc"), "--connect", str(address), *trust)
    assert error["code"] == code
    assert len(peer.received) == CHALLENGE_FRAME_BYTES


def test_nobody_at_the_address(plain: Cli, tmp_path: Path) -> None:
    trust = write_trust(tmp_path, new_root())
    error = plain.refused(6, "diagnose", sample("bcc"), "--connect", f"unix:{tmp_path}/none", *trust)
    assert "no enclave answers there" in error["message"]


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_root_that_is_none(plain: Cli, tmp_path: Path, content: bytes) -> None:
    trust = write_trust(tmp_path, new_root())
    (tmp_path / "root.pem").write_bytes(content)
    error = plain.refused(2, "diagnose", sample("bcc"), "--connect", "unix:x", *trust)
    assert "root.pem" in error["message"]


def install_copy(folder: Path) -> tuple[str, ...]:
    """An installation of copies of both packages, in an environment of its own; the command to run it.

    The .pth names the copies first and this environment's libraries after them, so that even ``-I`` (which
    the backend uses) finds the copies and nothing has to be installed.
    """
    for package in (enclavectl, enclave_payload):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        shutil.copytree(source, folder / "code" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    paths = {
        str(folder / "code"): None,
        sysconfig.get_path("purelib"): None,
        sysconfig.get_path("platlib"): None,
    }
    (site / "copies.pth").write_text("".join(f"{path}{os.linesep}" for path in paths))
    return (str(python), "-I", "-c", "from enclavectl.cli.main import main; main()")


def test_the_enclave_that_was_named_is_the_one_that_must_prove_itself(cli: Cli) -> None:
    """Both run the same image, so one policy fits both; the one at the address of ``first`` is ``second``."""
    ids = [
        cli.ok("run", "--name", name, "-o", "json").json()["enclave"]["id"] for name in ("first", "second")
    ]
    first, second = (cli.state / "local" / "enclaves" / one / "in.sock" for one in ids)
    (first.parent / "aside").hardlink_to(first)
    second.rename(first)
    for command in ("diagnose", "send"):
        error = cli.refused(4, command, sample("bcc"), "--enclave", "first")
        assert error["code"] == "other-enclave"
        assert ids[0] in error["message"].partition("found")[0]
        assert ids[1] in error["message"].partition("found")[2]
    (first.parent / "aside").rename(first)
    assert cli.ok("diagnose", sample("bcc"), "--enclave", "first").status == 0


def test_the_model_that_was_named_is_the_one_that_must_be_attested(cli: Cli, tmp_path: Path) -> None:
    """The same weights under a card with another word for a label: the record's hash is no help."""
    packaged = Path(enclave_payload.__file__).parent / "model"
    shutil.copytree(packaged, tmp_path / "renamed")
    card = tmp_path / "renamed" / "model.yaml"
    card.write_text(card.read_text().replace("Melanoma", "Mole"))
    cli.ok("run", "--model", str(tmp_path / "renamed"))
    error = cli.refused(4, "diagnose", sample("bcc"), "--model", str(packaged))
    assert error["code"] == "other-model"
    cli.ok("diagnose", sample("bcc"), "--model", str(tmp_path / "renamed"))
    cli.ok("diagnose", sample("bcc"))


def test_one_changed_byte_of_the_payload_is_another_enclave(cli: Cli, tmp_path: Path) -> None:
    cli.ok("run", "--name", "original")
    policy = tmp_path / "policy.yaml"
    pcrs = cli.ok("describe", "original", "--policy-file", policy, "-o", "json").json()["enclave"]["pcrs"]
    copy = Cli(cli.base, install_copy(tmp_path / "copy"))
    options = ("--fresh", "--policy", policy, sample("nv"))
    assert copy.run("diagnose", *options).status == 0, "the same bytes elsewhere are the same enclave"

    with (tmp_path / "copy" / "code" / "enclave_payload" / "limits.py").open("a") as file:
        file.write("#")
    error = copy.refused(4, "diagnose", *options)
    assert error["code"] == "pcr-mismatch"
    assert "PCR0: expected " in error["message"]
    assert "(also differs: PCR2)" in error["message"]
    copy.ok("run", "--name", "changed")
    changed = copy.ok("describe", "changed", "-o", "json").json()["enclave"]["pcrs"]
    assert {index for index in pcrs if pcrs[index] != changed[index]} == {"0", "2"}
    assert (
        cli.refused(4, "diagnose", "-e", "changed", "--policy", policy, sample("nv"))["code"]
        == "pcr-mismatch"
    )
    assert cli.ok("diagnose", "-e", "original", "--policy", policy, sample("nv")).status == 0


def test_answers_before_a_wrong_receipt_are_not_lost(plain: Cli, tmp_path: Path) -> None:
    """It ends the batch: an enclave that signs what it should not is not asked again."""
    asked: list[bytes] = []

    def second_is_wrong(receipt: bytes) -> bytes:
        asked.append(receipt)
        return receipt if len(asked) == 1 else receipt[:-1] + bytes([receipt[-1] ^ 1])

    root, address = new_root(), UnixAddress(tmp_path / "s")
    script = enclave_script(simulated_nsm(root), Lies(receipt=second_is_wrong, answers=9))
    with start_evil(address, script):
        trust = write_trust(tmp_path, root)
        names = [sample("bcc"), sample("mel"), sample("nv")]
        one_by_one = {"ENCLAVECTL_DIAGNOSE_IN_FLIGHT": "1"}
        where = ("--connect", str(address), *trust)
        ran = plain.run("diagnose", *names, *where, "-o", "json", env=one_by_one)
    value = ran.json()
    assert (ran.status, value["error"]["exit_code"]) == (4, 4)
    assert value["error"]["code"] == "receipt-signature"
    assert (value["complete"], value["pictures"], value["answered"]) == (False, 3, 1)
    assert value["results"][0]["receipted"] is True
    assert len(asked) == 2
