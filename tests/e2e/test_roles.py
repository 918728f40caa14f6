"""``send`` and ``listen``: two processes, as in two terminals."""

from __future__ import annotations

import json
import re
import select
import shutil
import socket
from pathlib import Path
from typing import Any

from enclave_payload.wire import HEADER_BYTES
from enclavectl.client.exchange import new_challenge
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import connect, listening
from enclavectl.protocol.evidence import challenge_frame
from tests.e2e.cli import PATIENCE_S, Cli, sample
from tests.schemas.validation import parsed


def lines(text: str) -> list[Any]:
    return [parsed(line) for line in text.splitlines()]


def pending(cli: Cli) -> list[Path]:
    return sorted((cli.state / "pending").glob("*"))


def test_two_terminals(shared: Cli) -> None:
    with shared.start("listen", "--count", "3", "--timeout", "60", "-o", "json") as listener:
        assert listener.stderr is not None
        assert "listening on unix:" in listener.stderr.readline()
        sent = shared.ok(
            "send", sample("bcc"), "-", sample("vasc"), "-o", "json", stdin=sample("df").read_bytes()
        )
        stdout, stderr = listener.communicate(timeout=60)
    assert listener.returncode == 0, stderr
    value = sent.json()
    assert (value["schema"], value["trust"], value["backend"]) == ("enclavectl.sent/1", "simulated", "local")
    names = [str(sample("bcc")), "-", str(sample("vasc"))]
    assert [one["image"] for one in value["results"]] == names
    answers = lines(stdout)
    assert {answer["schema"] for answer in answers} == {"enclavectl.answer/1"}
    assert {answer["trust"] for answer in answers} == {"simulated"}
    assert all("diagnos" in answer["notice"] for answer in answers)
    by_name = {answer["result"]["image"]: answer["result"] for answer in answers}
    assert {name: by_name[name]["label"]["code"] for name in names} == dict(
        zip(names, ("bcc", "df", "vasc"), strict=True)
    )
    assert all(by_name[name]["receipted"] for name in names)
    assert {by_name[one["image"]]["sha256"] for one in value["results"]} == {
        one["sha256"] for one in value["results"]
    }
    assert "verified i-00000000000000000-enc" in stderr
    assert pending(shared) == []


def test_answers_wait_for_a_listener_and_their_keys_are_private(shared: Cli) -> None:
    ran = shared.ok("send", sample("mel"), sample("nv"))
    assert [line.split(":")[0] for line in ran.out.splitlines()] == [
        f"handed in {sample('mel')}",
        f"handed in {sample('nv')}",
    ]
    keys = pending(shared)
    assert [path.stat().st_mode & 0o777 for path in keys] == [0o600, 0o600]
    assert keys[0].parent.stat().st_mode & 0o777 == 0o700
    ran = shared.ok("listen", "--count", "2", "--timeout", "60", "--top", "1")
    shown = [line.split()[0] for line in ran.out.splitlines() if "%" in line]
    assert sorted(shown) == ["mel", "nv"]
    assert ran.out.count("SIMULATED") == 2
    assert ran.out.count("receipted") == 2
    assert pending(shared) == []


def test_answers_that_one_listener_left_behind_come_to_the_next(cli: Cli) -> None:
    cli.ok("run", "--name", "patient")
    cli.ok("send", sample("mel"), sample("nv"), sample("df"))
    cli.ok("listen", "--count", "1", "--timeout", "20")
    cli.ok("listen", "--count", "2", "--timeout", "5")


def test_a_refused_picture_is_told_by_send(shared: Cli, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(sample("nv").read_bytes()[:4000])
    shutil.copy(sample("nv"), tmp_path / "nv.png")
    names = ("text.png", "cut.png", "nv.png")
    sent = shared.run("send", *(tmp_path / name for name in names), "-o", "json")
    assert sent.status == 5
    assert [one.get("error", {}).get("code") for one in sent.json()["results"]] == [
        "unsupported-format",
        "unreadable",
        None,
    ]
    [answer] = lines(shared.ok("listen", "--count", "1", "--timeout", "60", "-o", "json").out)
    assert answer["result"]["label"]["code"] == "nv"
    assert pending(shared) == []


def test_an_answer_whose_receipt_names_another_question_is_refused(cli: Cli) -> None:
    """As if the salt, or the document, were of another request: the answer is kept, and not shown."""
    cli.ok("run", "--name", "one")
    cli.ok("send", sample("nv"))
    [path] = pending(cli)
    honest = json.loads(path.read_text())
    lies = {
        "salt": ("00" * 32, "request-mismatch"),
        "sha256": ("00" * 32, "request-mismatch"),
        "media_type": ("image/jpeg", "request-mismatch"),
        "document": ("d2" + honest["document"], "document-mismatch"),
        "key_config": ("00", "key-config"),
    }
    for field, (value, code) in lies.items():
        path.write_text(json.dumps({**honest, field: value}))
        told = cli.run("listen", "--count", "1", "--timeout", "2")
        assert (told.status, told.out) == (5, ""), field
        assert f"({code})" in told.err, field
    path.write_text(json.dumps(honest))
    assert "receipted" in cli.ok("listen", "--count", "1", "--timeout", "20").out
    assert pending(cli) == []


def test_an_answer_without_a_key_is_told_and_taken(shared: Cli) -> None:
    shared.ok("send", sample("nv"))
    for path in (shared.state / "pending").glob("*.json"):
        path.unlink()
    told = shared.run("listen", "--count", "1", "--timeout", "3")
    assert told.status == 5
    assert "an answer to a request that is not ours" in told.err
    assert "not ours" not in shared.run("listen", "--timeout", "3").err


def test_without_news_listen_ends(shared: Cli) -> None:
    ran = shared.ok("listen", "--timeout", "0.3")
    assert ran.out == ""
    assert ran.err.startswith("enclavectl: listening on unix:")
    error = shared.refused(5, "listen", "--timeout", "0.3", "--count", "2")
    assert error["message"] == "expected 2 answers, found 0 within 0.3 s without news"
    assert shared.run("listen", "--count", "0").status == 2


def test_one_listener_at_a_time(shared: Cli) -> None:
    with shared.start("listen", "--timeout", "60") as first:
        assert first.stderr is not None
        first.stderr.readline()
        error = shared.refused(6, "listen", "--timeout", "1")
        assert "Address already in use" in error["message"]
        assert error["hint"]
        first.kill()
    # The socket of a killed listener is in nobody's way.
    shared.ok("listen", "--timeout", "0.3")
    assert not [path for path in shared.sockets() if path.name.startswith("out-")]


def test_send_needs_an_enclave_that_runs(cli: Cli) -> None:
    assert "no enclave is running" in cli.refused(6, "send", sample("nv"))["message"]
    assert "absent.png" in cli.refused(2, "send", "absent.png")["message"]
    error = cli.refused(2, "send", sample("nv"), "--connect", "unix:x", "--enclave", "y")
    assert "expected one of --connect and --enclave" in error["message"]


def test_a_listener_shows_nothing_of_an_enclave_that_its_policy_does_not_name(
    shared: Cli, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    shared.ok("describe", "shared", "--policy-file", policy)
    policy.write_text(re.sub("PCR2: '[0-9a-f]+'", f"PCR2: '{'ab' * 48}'", policy.read_text()))
    ran = shared.ok("listen", "--timeout", "2.5", "--policy", policy)
    assert ran.out == ""
    assert ran.err.count("(pcr-mismatch)") == 1


def take_answer(outbound: UnixAddress) -> bytes:
    """What a relay can take of an enclave that dials out, without a key: the frame of its sealed answer."""
    with listening(outbound) as sock:
        while True:
            peer, _ = sock.accept()
            with peer:
                peer.sendall(challenge_frame(new_challenge()))
                read_frame(peer)
                if select.select([peer], [], [], 2.0)[0]:  # the other enclave has no answer
                    return read_frame(peer)


def read_frame(sock: socket.socket) -> bytes:
    """Read one frame, and no byte of the next: an enclave may send its answer right behind its evidence."""
    frame = bytearray()
    wanted = HEADER_BYTES
    while len(frame) < wanted:
        chunk = sock.recv(wanted - len(frame))
        assert chunk, "the peer closed the connection"
        frame += chunk
        if len(frame) >= HEADER_BYTES:
            wanted = 4 + int.from_bytes(frame[:4])
    return bytes(frame)


def deliver_for(other: UnixAddress, listener: UnixAddress, answer: bytes) -> None:
    """Prove to be the enclave at ``other``, by asking it, and then hand over an answer that is not its."""
    with connect(listener, PATIENCE_S) as here, connect(other, PATIENCE_S) as there:
        there.sendall(read_frame(here))
        here.sendall(read_frame(there))
        here.sendall(answer)
        here.shutdown(socket.SHUT_WR)
        while here.recv(1024):
            pass


def test_an_answer_counts_as_much_as_what_its_own_enclave_had_proven(cli: Cli) -> None:
    """A relay gives a debug enclave's answer to `listen` behind the evidence of another enclave."""
    good = cli.ok("run", "--name", "good", "-o", "json").json()["enclave"]
    cli.ok("run", "--name", "bad", "--debug")
    cli.ok("send", sample("nv"), "--enclave", "bad", "--unsafe-allow-debug")
    outbound = UnixAddress(cli.state / "local" / "out-5006.sock")
    answer = take_answer(outbound)
    good_address = UnixAddress(Path(good["address"].removeprefix("unix:")))
    for options, reason in (((), "(debug-mode)"), (("--unsafe-allow-debug",), "(other-enclave)")):
        with cli.start("listen", "--count", "1", "--timeout", "5", *options) as listener:
            assert listener.stderr is not None
            assert "listening" in listener.stderr.readline()
            # Also with debug mode allowed: before the enclave itself has dialed in again.
            deliver_for(good_address, outbound, answer)
            told = "".join(iter(listener.stderr.readline, ""))
            stdout = listener.communicate()[0]
        assert f"{sample('nv')}: its answer is refused: " in " ".join(told.split())
        assert reason in told
        if not options:
            assert stdout == ""
    assert "DEBUG" in stdout, told
    assert pending(cli) == []


def test_an_answer_that_is_delivered_again_is_shown_once_and_its_receipt_is_kept_once(cli: Cli) -> None:
    """Who lost the confirmation delivers again; `verify` refuses a file with a receipt twice."""
    started = cli.ok("run", "--name", "good", "-o", "json").json()["enclave"]
    cli.ok("send", sample("nv"))
    outbound = UnixAddress(cli.state / "local" / "out-5006.sock")
    answer = take_answer(outbound)
    address = UnixAddress(Path(started["address"].removeprefix("unix:")))
    with cli.start("listen", "--timeout", "3", "--evidence", "e.json") as listener:
        assert listener.stderr is not None
        assert "listening" in listener.stderr.readline()
        for _ in range(2):
            deliver_for(address, outbound, answer)
        stdout, told = listener.communicate(timeout=60)
    assert (stdout.count(str(sample("nv"))), "a request that is not ours" in told) == (1, True), told
    assert (cli.base / "e.receipts.jsonl").read_bytes().count(b"\n") == 1


def test_an_answer_is_shown_with_what_was_proven_at_send(shared: Cli) -> None:
    module_id = shared.ok("describe", "shared", "-o", "json").json()["attested"]["module_id"]
    shared.ok("send", sample("nv"), sample("df"))
    [answer] = lines(shared.ok("listen", "--count", "1", "--timeout", "60", "-o", "json").out)
    assert answer["evidence"] == {
        "module_id": module_id,
        "release": "shared as started",
        "root": "development root of this machine",
    }
    shown = shared.ok("listen", "--count", "1", "--timeout", "60").out
    assert module_id in shown
    assert "shared as started; under development root of this machine" in " ".join(shown.split())
