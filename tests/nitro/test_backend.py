"""Nitro enclaves from start to end through the installed command, on a fake host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.cli import sample, wait_until
from tests.nitro.cli import STAMPED, NitroCli
from tests.schemas.validation import parsed


def test_an_enclave_from_start_to_end(cli: NitroCli) -> None:
    ran = cli.ok("run", cli.fake.eif, "--name", "first", "--cid", "16", "-o", "json").json()
    assert (ran["schema"], ran["trust"], ran["backend"]) == ("enclavectl.enclave/1", "simulated", "nitro")
    enclave = ran["enclave"]
    lock = json.loads(cli.fake.lock.read_text())
    assert {f"PCR{index}": value for index, value in enclave["pcrs"].items()} == lock["pcrs"]
    assert ran["attested"]["pcrs"].items() >= enclave["pcrs"].items()
    assert enclave["machine"]["cid"] == 16
    assert enclave["model"]["id"] == "demo-lesion"
    assert [(one["from"], one["for"]) for one in ran["connections"]] == [
        ("clients on the parent", "pictures (diagnose, send)"),
        ("the enclave", "answers (listen)"),
    ]
    assert cli.listed() == {"first": "RUNNING"}
    for reference in ("first", "fir", enclave["id"], enclave["id"][:22]):
        found = cli.ok("describe", reference, "-o", "json").json()
        assert found["enclave"]["id"] == enclave["id"]
    assert found["attested"]["model_pinned"] is True
    assert {**found["enclave"]["machine"]["nitro_cli_pcrs"], "16": enclave["pcrs"]["16"]} == enclave["pcrs"]
    answer = cli.ok("diagnose", sample("nv"), "-o", "json").json()
    assert (answer["backend"], answer["trust"]) == ("nitro", "simulated")
    assert answer["results"][0]["label"]["code"] == "nv"
    assert enclave["machine"]["lock_sha256"] == sha256(cli.fake.lock.read_bytes()).hexdigest()

    assert "exists already" in cli.refused(6, "run", cli.fake.eif, "--name", "first")["message"]
    assert cli.refused(6, "run", cli.fake.eif, "--cid", "16")["code"] == "cid-in-use"
    assert cli.refused(6, "console", "first")["code"] == "no-console"
    assert cli.ok("terminate", "first", "-o", "json").json()["terminated"] == ["first"]
    assert "has ended already" in cli.ok("terminate", "first").err
    assert (cli.records(), cli.images(), cli.fake.enclaves()) == ([], [], [])
    (past,) = cli.ok("history", "-o", "json").json()["enclaves"]
    assert (past["id"], past["how"]) == (enclave["id"], "terminated by enclavectl")


def test_evidence_names_the_lock_that_the_image_was_launched_with(cli: NitroCli) -> None:
    cli.ok("run", cli.fake.eif, "--name", "first")
    launched_with = sha256(cli.fake.lock.read_bytes()).hexdigest()
    lock = cli.fake.lock.read_bytes()
    cli.fake.lock.unlink()  # a new build replaces it; what counts is the lock of the launch
    cli.ok("attest", "first", "--out", "attested.json")
    cli.ok("diagnose", "--evidence", "diagnosed.json", sample("nv"))
    listen = ("listen", "--count", "1", "--timeout", "60", "--evidence", "heard.json")
    with cli.start(*listen) as listener:
        cli.ok("send", "--evidence", "sent.json", sample("nv"))
        _, err = listener.communicate(timeout=60)
    assert listener.returncode == 0, err
    names = ("attested", "diagnosed", "sent", "heard")
    kept = [json.loads((cli.base / f"{name}.json").read_text())["lock_sha256"] for name in names]
    assert kept == [launched_with] * 4
    assert f"SHA-256 {launched_with}" in cli.ok("describe", "first").out
    (cli.base / "enclavectl.lock.json").write_bytes(lock)
    judged = cli.run(
        "verify", "sent.json", "--lock", "enclavectl.lock.json", "--root", cli.fake.home / "root.pem"
    )
    assert "by its word with the image of this lock" in judged.out


def test_a_lock_of_an_older_build_pins_the_image_only(cli: NitroCli) -> None:
    lock = json.loads(cli.fake.lock.read_text())
    del lock["pcrs"]["PCR16"]
    cli.fake.lock.write_text(json.dumps(lock))
    ran = cli.ok("run", cli.fake.eif, "--name", "old", "-o", "json").json()
    assert set(ran["enclave"]["pcrs"]) == {"0", "1", "2"}
    assert ran["attested"]["model_pinned"] is False
    assert "model pinned  no: PCR16 is not part of the release" in cli.ok("describe", "old").out
    answered = cli.ok("diagnose", sample("nv")).out
    assert "model pinned  no: PCR16 is not part of the release" in answered


def test_a_lock_of_another_model_fails_the_enclaves_evidence(cli: NitroCli) -> None:
    lock = json.loads(cli.fake.lock.read_text())
    lock["pcrs"]["PCR16"] = "11" * 48
    cli.fake.lock.write_text(json.dumps(lock))
    error = cli.refused(4, "run", cli.fake.eif, "--name", "other")
    assert (error["code"], error["message"][:15]) == ("pcr-mismatch", "PCR16: expected")


def test_the_console_of_a_debug_enclave_is_kept_from_its_first_byte(cli: NitroCli, tmp_path: Path) -> None:
    ran = cli.ok("run", cli.fake.eif, "--name", "bugs", "--debug")
    assert ran.out.startswith("DEBUG")
    assert ran.err.count("DEBUG MODE") == 2
    assert "attested      zeros" in ran.out
    assert "model pinned  no" in ran.out
    text = cli.ok("console", "bugs", "--save", tmp_path / "saved").out
    assert all(STAMPED.fullmatch(line) for line in text.splitlines())
    assert "Linux version" in text.splitlines()[0]
    assert "serving model demo-lesion" in text
    assert "Successfully connected" not in text
    assert (tmp_path / "saved").stat().st_mode & 0o777 == 0o600
    assert "serving model" in (tmp_path / "saved").read_text()
    described = cli.ok("describe", "bugs", "-o", "json").json()
    assert set(described["attested"]["pcrs"]["0"]) == {"0"}
    assert set(described["enclave"]["pcrs"]["0"]) != {"0"}
    assert cli.refused(4, "diagnose", sample("nv"))["code"] == "debug-mode"
    value = cli.ok("diagnose", sample("nv"), "--unsafe-allow-debug", "-o", "json").json()
    assert value["trust"] == "debug"
    cli.ok("terminate", "bugs")
    assert "serving model" in cli.ok("logs", "bugs").out
    assert cli.ok("logs", "bugs", "-o", "json").json()["enclave"]["how"] == "terminated by enclavectl"
    refused = cli.refused(6, "logs", "nobody")
    assert "no enclave of this name is known to have ended" in refused["message"]
    assert "enclavectl console nobody" in refused["hint"]


def test_an_enclave_that_ends_by_itself_is_dead_and_remembered(cli: NitroCli) -> None:
    cli.ok("run", cli.fake.eif, "--name", "mortal", "--debug", "--no-wait")
    wait_until(lambda: "Linux version" in cli.run("console", "mortal").out, "its first words are recorded")
    cli.fake.end_guests()
    wait_until(lambda: cli.listed() == {"mortal": "DEAD"}, "it dies")
    assert "by itself" in cli.ok("history", "-o", "json").json()["enclaves"][0]["how"]
    assert "Linux version" in cli.ok("console", "--follow", "mortal").out
    assert "found a dead one" in cli.refused(6, "diagnose", "-e", "mortal", sample("nv"))["message"]
    assert cli.ok("terminate", "mortal").out == "terminated mortal\n"
    assert cli.records() == []


def test_two_launches_at_once_take_turns(cli: NitroCli) -> None:
    cli.fake.hold("boot")
    with cli.start("run", cli.fake.eif, "--name", "one") as one:
        wait_until(lambda: cli.listed().get("one") == "BOOTING", "one boots")
        with cli.start("run", cli.fake.eif, "--name", "two") as two:
            assert two.stderr is not None
            while "waiting for another launch" not in two.stderr.readline():
                pass
            assert cli.listed() == {"one": "BOOTING", "two": "BOOTING"}
            cli.fake.let_go("boot")
            one.communicate(timeout=60)
            two.communicate(timeout=60)
    assert (one.returncode, two.returncode) == (0, 0)
    assert cli.listed() == {"one": "RUNNING", "two": "RUNNING"}


def test_nobody_talks_while_the_first_hash_runs(cli: NitroCli) -> None:
    cli.fake.hold("hash")
    cli.ok("run", cli.fake.eif, "--name", "hashed", "--no-wait")
    with cli.start("list", "-o", "json") as lister:
        assert lister.stderr is not None
        told = ""
        while "known meanwhile: hashed RUNNING" not in told:
            told += lister.stderr.readline()
        size = cli.fake.eif.stat().st_size / 1e6
        assert f"hashed: nitro-cli is hashing its image of {size:.1f} MB, which takes about 1 s" in told
        cli.fake.let_go("hash")
        out, _ = lister.communicate(timeout=60)
    assert [one["state"] for one in parsed(out)["enclaves"]] == ["RUNNING"]
    assert len(cli.fake.enclaves()) == 1


def test_one_folder_for_logs_and_sockets_is_enough(cli: NitroCli) -> None:
    env = {"NITRO_CLI_LOGS_PATH": cli.fake.environment["NITRO_CLI_SOCKETS_PATH"]}
    ran = cli.run("run", cli.fake.eif, "--name", "first", env=env)
    assert ran.status == 0, ran.err
    assert [one["name"] for one in cli.run("list", "-o", "json", env=env).json()["enclaves"]] == ["first"]
    assert cli.run("terminate", "first", env=env).status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_interrupted_while_it_boots_it_is_listed_and_ends(cli: NitroCli, number: int) -> None:
    cli.fake.hold("boot")
    with cli.start("run", cli.fake.eif, "--name", "halted") as command:
        wait_until(lambda: cli.listed() == {"halted": "BOOTING"}, "it boots")
        wait_until(lambda: "run-enclave" in [argv[0] for argv in cli.fake.argv()], "nitro-cli launches it")
        os.kill(command.pid, number)
        _, err = command.communicate(timeout=60)
    if number == signal.SIGINT:
        assert command.returncode == 130
        assert "a boot cannot be stopped" in err
    assert cli.listed() == {"halted": "BOOTING"}
    cli.fake.let_go("boot")
    wait_until(lambda: not cli.records() and not cli.fake.enclaves(), "it ends as soon as it has booted")


def test_ctrl_c_while_it_proves_itself_ends_it(cli: NitroCli) -> None:
    cli.fake.set(application_s=60)
    with cli.start("run", cli.fake.eif, "--name", "slow") as command:
        wait_until(lambda: cli.listed() == {"slow": "RUNNING"}, "it has booted")
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=60)
    assert command.returncode == 130
    wait_until(lambda: not cli.records() and not cli.fake.enclaves(), "it is gone")


def test_ctrl_c_detaches_from_an_attached_console(cli: NitroCli) -> None:
    with cli.start("run", cli.fake.eif, "--name", "watched", "--debug", "--attach") as command:
        assert command.stdout is not None
        while "serving model" not in command.stdout.readline():
            pass
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=60)
    assert (command.returncode, "detached; watched goes on" in err) == (0, True)
    assert cli.listed() == {"watched": "RUNNING"}


def test_terminating_one_that_boots_ends_it_after_its_boot(cli: NitroCli) -> None:
    cli.fake.hold("boot")
    with cli.start("run", cli.fake.eif, "--name", "early") as command:
        wait_until(lambda: cli.listed() == {"early": "BOOTING"}, "it boots")
        with cli.start("terminate", "early") as end:
            wait_until(lambda: any(cli.state.rglob("ending")), "its end is asked for")
            cli.fake.let_go("boot")
            end.communicate(timeout=60)
        command.communicate(timeout=60)
    assert end.returncode == 0
    assert command.returncode != 0
    wait_until(lambda: not cli.records() and not cli.fake.enclaves(), "it is gone")


def test_enclaves_of_others_are_shown_and_not_trusted(cli: NitroCli) -> None:
    cli.fake.launch("--enclave-name", "theirs")
    (one,) = cli.ok("list", "-o", "json").json()["enclaves"]
    assert (one["name"], one["model"], one["pcrs"], one["started"]) == ("theirs", None, {}, None)
    assert one["machine"]["nitro_cli_pcrs"]["0"]
    assert cli.refused(6, "diagnose", sample("nv"))["code"] == "no-release"
    assert cli.refused(6, "describe", "theirs", "--policy-file", "p.yaml")["code"] == "no-release"
    assert cli.ok("describe", "theirs", "-o", "json").json()["attested"] is None
    assert "no evidence" in cli.ok("describe", "theirs").out
    assert "NAME" in cli.ok("list").out
    assert cli.ok("terminate", "theirs").out == "terminated theirs\n"
    assert cli.ok("history", "-o", "json").json()["enclaves"] == []


def test_the_name_of_another_users_enclave_commands_no_terminal(cli: NitroCli) -> None:
    cli.fake.launch("--enclave-name", "\x1b[31mx\nterminated first")
    ends = [cli.ok("list"), cli.ok("terminate", "--all")]
    assert all("\x1b" not in one.out + one.err for one in ends)
    assert ends[-1].out == "terminated \\x1b[31mx\\nterminated first\n"


def test_the_hint_on_another_users_enclave_has_nothing_of_theirs_to_run(cli: NitroCli) -> None:
    theirs = {
        "EnclaveName": "x; touch owned",
        "EnclaveID": "i-0abc-enc1",
        "EnclaveCID": 16,
        "NumberOfCPUs": 2,
        "CPUIDs": [1, 9],
        "MemoryMiB": 1024,
        "State": "RUNNING",
        "Flags": "NONE",
    }
    with subprocess.Popen(["sleep", "60"], user=None if os.geteuid() else 65534) as stranger:
        # Without root all processes that we start are ours, and init is not.
        listing = json.dumps([{**theirs, "ProcessID": 1 if os.geteuid() else stranger.pid}])
        cli.fake.program.write_text(
            f"#!/bin/sh\ncase $1 in describe-enclaves) echo '{listing}';;\n"
            "terminate-enclave) echo '[ E39 ] Enclave process connection failure' >&2; exit 39;;\n"
            "*) echo Nitro CLI 1.4.2;; esac\n"
        )
        refused = cli.refused(3, "terminate", "--all")
        stranger.kill()
    assert refused["code"] == "not-owner"
    assert refused["hint"].endswith("enclavectl terminate i-0abc-enc1")


def test_a_fresh_enclave_for_one_command_ends_with_it(cli: NitroCli) -> None:
    env = {"ENCLAVECTL_ENCLAVE_EIF": str(cli.fake.eif)}
    ran = cli.run("diagnose", sample("bcc"), "-o", "json", env=env)
    assert (ran.status, ran.json()["results"][0]["label"]["code"]) == (0, "bcc")
    # Before the command ends: the next one may need all that this host has for enclaves.
    assert (cli.records(), cli.fake.enclaves(), cli.images()) == ([], [], [])
    assert cli.ok("history", "-o", "json").json()["enclaves"] == []


def test_a_launch_that_fails_leaves_nothing_but_a_memory(cli: NitroCli) -> None:
    cli.fake.set(module=False)
    error = cli.refused(3, "run", cli.fake.eif, "--name", "first")
    assert (error["code"], "modprobe" in error["hint"]) == ("nitro-cli-E19", True)
    wait_until(lambda: not cli.records() and not cli.images(), "record and image go")
    assert "never started" in cli.ok("history", "-o", "json").json()["enclaves"][0]["how"]


def test_a_production_host_refuses_debug_mode(cli: NitroCli, tmp_path: Path) -> None:
    env = {"ENCLAVECTL_PROFILE": "production"}
    policy = tmp_path / "p.yaml"
    policy.write_text("schema: enclavectl.policy/2\naccept: [simulated]\nunsafe_allow_debug: true\n")
    for arguments in (
        ("run", str(cli.fake.eif), "--debug"),
        ("diagnose", str(sample("nv")), "--unsafe-allow-debug"),
        ("send", str(sample("nv")), "--unsafe-allow-debug"),
        ("listen", "--unsafe-allow-debug", "--timeout", "1"),
    ):
        ran = cli.run(*arguments, "-o", "json", env=env)
        assert (ran.status, ran.json()["error"]["code"]) == (2, "production"), arguments
    cli.ok("run", cli.fake.eif, "--name", "real")
    ran = cli.run("diagnose", sample("nv"), "--policy", policy, "-o", "json", env=env)
    assert (ran.status, ran.json()["error"]["code"]) == (2, "production")
    assert not [line for line in cli.fake.argv() if "--debug-mode" in line]
