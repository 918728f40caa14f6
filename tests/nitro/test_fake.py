"""That the fake has the real one's traps: each is what the backend is there to keep users out of."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from enclavectl.attestation import Policy, Release, Trust, TrustRoot
from enclavectl.client.exchange import Expectation
from enclavectl.client.session import Client
from enclavectl.eif.examine import read_image
from enclavectl.net.address import HybridVsockAddress
from tests.cli.command import Done
from tests.e2e.cli import is_alive, wait_until
from tests.nitro.host import FakeHost, fake_host, write_image

CAUSE = re.compile(r"\[ (E\d{2}) \]")
LAUNCH = ("run-enclave", "--cpu-count", "2", "--memory", "1024", "--eif-path")


def refused(ran: Done, *codes: str, reason: str = "") -> None:
    assert CAUSE.findall(ran.err) == list(codes)
    assert ran.status == int(codes[-1][1:])
    assert reason in ran.err


def listed(host: FakeHost) -> list[Any]:
    found = host.run("describe-enclaves").json()
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("debug", [False, True])
def test_an_enclave_is_the_real_payload_and_attests_its_image(host: FakeHost, debug: bool) -> None:
    value = host.launch(*(["--debug-mode"] if debug else []))
    assert list(value) == [
        *("EnclaveName", "EnclaveID", "ProcessID", "EnclaveCID", "NumberOfCPUs", "CPUIDs", "MemoryMiB")
    ]
    assert (value["EnclaveName"], value["EnclaveCID"], value["CPUIDs"]) == ("demo", 16, [1, 9])
    with host.eif.open("rb") as file:
        measured = read_image(file).measurements.registers()
    registers = {int(name[3:]): bytes.fromhex(register) for name, register in measured.items()}
    root = (host.home / "root.pem").read_bytes()
    policy = Policy(
        accept=frozenset({Trust.SIMULATED}),
        releases=(Release(name="demo", pcrs=registers),),
        unsafe_allow_debug=debug,
    )
    trusted = TrustRoot.from_pem(root, trust=Trust.SIMULATED, name="fake host")
    address = HybridVsockAddress(host.home / "vsock" / "16.vsock", 5005)
    with Client.connect(address, Expectation(policy=policy, root=trusted), timeout_s=30) as client:
        document = client.enclave.document
    assert document.trust is (Trust.DEBUG if debug else Trust.SIMULATED)
    assert document.module_id.startswith("i-0f1a2b3c4d5e6f708-enc")
    [shown] = listed(host)
    assert shown["Flags"] == ("DEBUG_MODE" if debug else "NONE")
    shown["Measurements"].pop("HashAlgorithm")
    assert shown["Measurements"] == measured  # the file's, also where zeros are attested


def test_names_ids_and_cids(host: FakeHost) -> None:
    first = host.launch("--enclave-cid", "20")
    second = host.launch()
    third = host.launch("--enclave-name", "x")
    assert [one["EnclaveName"] for one in (first, second, third)] == ["demo", "demo_1", "x"]
    assert [one["EnclaveCID"] for one in (first, second, third)] == [20, 16, 17]
    taken = host.run(*LAUNCH, host.eif, "--enclave-cid", "20", env={"BACKTRACE": "1"})
    refused(taken, "E29", "E39", reason="An error has occurred: 22 (rc: -1)")
    ended = host.run("terminate-enclave", "--enclave-name", "demo_1")
    assert ended.err == f"Successfully terminated enclave {second['EnclaveID']}.\n"
    assert ended.json() == {
        "EnclaveName": "demo_1",
        "EnclaveID": second["EnclaveID"],
        "Terminated": True,
    }
    # Only what follows the last -enc counts.
    assert host.run("terminate-enclave", "--enclave-id", third["EnclaveID"].replace("i-", "x-")).status == 0
    assert [one["EnclaveID"] for one in listed(host)] == [first["EnclaveID"]]
    assert host.enclaves() == [20]


@pytest.mark.parametrize(
    ("settings", "arguments", "code", "reason"),
    [
        ({"device": "missing"}, (), "E19", "File: '/dev/nitro_enclaves', failing operation: 'Open'."),
        ({"device": "denied"}, (), "E19", "PermissionDenied"),
        ({}, ("--memory", "0"), "E26", "the minimum memory should be 4 MB"),
        ({"pages": {"2": 100}}, ("--memory", "32"), "E29", "memory size is lower than the minimum supported"),
        ({"pages": {"2": 100}}, ("--memory", "256"), "E27", "Failed to allocate entire memory (56 MB"),
        ({}, ("--cpu-count", "10"), "E22", "requested 10, but maximum is 8"),
        ({}, ("--cpu-count", "3"), "E29", "full CPU cores have not been set"),
        ({}, ("--cpu-count", "0"), "E29", "no vCPUs have been added"),
        ({}, ("--cpu-ids", "1", "1"), "E20", "contains 1 duplicate(s)"),
        ({}, ("--cpu-ids", "1", "5"), "E21", "CPU with ID 5 is not available"),
        ({"port_9000_taken": True}, (), "E36", "vsock bind error"),
        ({"heartbeat": False, "boot_timeout_s": 0.1}, (), "E36", "VsockTimeoutError"),
        ({"driver_error": 264}, (), "E29", "pages and the CPUs belong"),
    ],
)
def test_a_launch_is_refused_with_a_reason_and_holds_nothing(
    host: FakeHost, settings: dict[str, object], arguments: Sequence[str], code: str, reason: str
) -> None:
    host.set(**settings)
    given = dict(zip(LAUNCH[1:5:2], LAUNCH[2:5:2], strict=True))
    if arguments and arguments[0] == "--cpu-ids":
        given.pop("--cpu-count")
    elif arguments:
        given[arguments[0]] = arguments[1]
    rest = arguments if arguments and arguments[0] == "--cpu-ids" else ()
    options = [text for pair in given.items() for text in pair]
    ran = host.run("run-enclave", *options, "--eif-path", host.eif, *rest, env={"BACKTRACE": "1"})
    refused(ran, code, "E39", reason=reason)
    assert "Failed connections: 1\n[ E39 ]" in ran.err
    # A process that ends gives its command line back before its descriptors, which hold the enclave.
    wait_until(lambda: host.daemons() == host.enclaves() == [], "the daemon ends")


def test_more_than_there_is(host: FakeHost) -> None:
    host.set(cores=[[1, 9]], pages={"1024": 4})
    value = host.launch(memory=1500)
    assert value["MemoryMiB"] == 2048  # whole pages
    refused(host.run(*LAUNCH, host.eif, env={"BACKTRACE": "1"}), "E29", "E39", reason="no CPUs are available")


def test_no_image_at_all_fails_in_the_signature_checker(host: FakeHost) -> None:
    host.eif.write_text("no image\n" * 100)
    refused(host.run(*LAUNCH, host.eif), "E59", "E39")


def test_a_booting_enclave_is_invisible_and_keeps_others_from_booting(host: FakeHost) -> None:
    host.hold("boot")
    with host.start(*LAUNCH, host.eif) as booting:
        wait_until(lambda: host.enclaves() == [16], "it has started")
        assert listed(host) == []
        refused(host.run(*LAUNCH, host.eif), "E36", "E39")
        host.let_go("boot")
        out, err = booting.communicate(timeout=60)
    assert booting.returncode == 0, err
    assert [one["ProcessID"] for one in listed(host)] == [json.loads(out)["ProcessID"]]


def test_killing_the_launch_cancels_nothing(host: FakeHost) -> None:
    """The daemon holds both ends of its first connection, so that it never learns of it."""
    host.hold("boot")
    with host.start(*LAUNCH, host.eif) as booting:
        wait_until(lambda: host.enclaves() == [16], "it has started")
        booting.kill()
    refused(host.run(*LAUNCH, host.eif), "E36", "E39")
    host.let_go("boot")
    wait_until(lambda: list((host.home / "run").iterdir()) != [], "it has booted")
    assert [one["EnclaveCID"] for one in listed(host)] == [16]


def hashing(host: FakeHost, describes: int = 1) -> None:
    """Return once so many describes were received."""
    wait_until(lambda: host.read_log().count("Received command: Describe") == describes, "it waits")


def test_a_describe_that_is_killed_takes_the_enclave_with_it(host: FakeHost) -> None:
    host.hold("hash")
    value = host.launch()
    with host.start("describe-enclaves") as describe:
        hashing(host)
        describe.kill()
    host.let_go("hash")
    wait_until(lambda: not is_alive(value["ProcessID"]), "the daemon ends")
    wait_until(lambda: host.enclaves() == [], "the driver has everything back")
    assert listed(host) == []


@pytest.mark.parametrize("command", [("describe-enclaves",), ("terminate-enclave", "--enclave-name", "x")])
def test_a_second_question_meanwhile_gives_up_and_takes_the_enclave_with_it(
    host: FakeHost, command: Sequence[str]
) -> None:
    host.hold("hash")
    value = host.launch()
    with host.start("describe-enclaves") as first:
        hashing(host)
        second = host.run(*command)
        if command == ("describe-enclaves",):
            assert (second.status, second.out, CAUSE.findall(second.err)) == (39, "[]\n", ["E39"])
            assert "Failed connections: 1\n" in second.err
        host.let_go("hash")
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert [one["EnclaveID"] for one in json.loads(out)] == [value["EnclaveID"]]
    wait_until(lambda: not is_alive(value["ProcessID"]), "the daemon ends")


def test_an_image_that_is_replaced_while_it_is_hashed_ends_the_enclave(host: FakeHost) -> None:
    host.hold("hash")
    value = host.launch()
    host.eif.write_text("another build is writing here\n" * 100)
    host.let_go("hash")
    ran = host.run("describe-enclaves")
    assert ran.out == "[]\n"
    assert CAUSE.findall(ran.err) == ["E35", "E39"]
    wait_until(lambda: not is_alive(value["ProcessID"]), "the daemon ends")


def test_an_image_that_is_replaced_after_its_hash_changes_nothing(host: FakeHost) -> None:
    host.launch()
    [before] = listed(host)
    host.eif.write_text("another build is writing here\n" * 100)
    assert listed(host) == [before]


def test_one_that_does_not_answer_leaves_the_others_answers(host: FakeHost, tmp_path: Path) -> None:
    first = host.launch()
    assert len(listed(host)) == 1
    host.hold("hash")
    other = tmp_path / "other.eif"
    write_image(other, b"b")
    second = host.run(*LAUNCH, other).json()
    with host.start("describe-enclaves"):
        hashing(host, describes=3)
        ran = host.run("describe-enclaves")
        assert [one["EnclaveID"] for one in ran.json()] == [first["EnclaveID"]]
        assert (ran.status, CAUSE.findall(ran.err)) == (39, ["E39"])
        os.kill(second["ProcessID"], signal.SIGKILL)


def test_others_enclaves_are_seen_and_not_ended(host: FakeHost) -> None:
    host.set(user="alice")
    hers = host.launch()
    host.set(user="bob")
    his = host.launch()
    assert len(listed(host)) == 2
    ran = host.run("terminate-enclave", "--enclave-id", hers["EnclaveID"])
    refused(ran, "E39")
    assert ran.out == ""
    ran = host.run("terminate-enclave", "--all")
    assert [one["EnclaveID"] for one in ran.json()] == [his["EnclaveID"]]
    assert (ran.status, CAUSE.findall(ran.err)) == (39, ["E39"])
    host.set(user="root")
    assert host.run("terminate-enclave", "--all").status == 0


@pytest.mark.parametrize(("version", "array"), [("1.4.2", False), ("1.4.3", True)])
def test_terminate_all_by_version(host: FakeHost, version: str, array: bool) -> None:
    host.set(version=version)
    assert host.run("terminate-enclave", "--all") == Done(0, "[]\n" if array else "", "")
    host.launch()
    host.launch()
    ran = host.run("terminate-enclave", "--all")
    assert ran.out.startswith("[\n" if array else '{\n  "EnclaveName"')
    assert ("}\n{" in ran.out) is not array


@pytest.mark.parametrize(
    ("version", "arguments", "told"),
    [
        ("1.1.0", ("describe-enclaves", "--metadata"), "unexpected argument '--metadata'"),
        ("1.1.0", (*LAUNCH, "x", "--attach-console"), "unexpected argument '--attach-console'"),
        ("1.3.4", ("sign-eif",), "unrecognized subcommand 'sign-eif'"),
        ("1.2.2", ("run-enclave", "--memory", "1G", "--cpu-count", "2", "--eif-path", "x"), "[ E03 ]"),
    ],
)
def test_what_came_later_is_unknown(
    host: FakeHost, version: str, arguments: Sequence[str], told: str
) -> None:
    host.set(version=version)
    assert host.run("--version").out == f"Nitro CLI {version}\n"
    ran = host.run(*arguments)
    assert ran.status in {2, 3}
    assert told in ran.err


def test_the_hasher_has_another_name_by_version(host: FakeHost) -> None:
    names = []
    for version in ("1.4.5", "1.5.0"):
        host.set(version=version)
        measured = host.run("describe-eif", "--eif-path", host.eif).json()["Measurements"]
        names.append(measured["HashAlgorithm"])
    assert names == ["Sha384 { ... }", "Sha512_48 { .. }"]


@pytest.mark.parametrize(("end", "status"), [("eof", 0), ("reset", 45)])
def test_the_console_ends_with_the_enclave(host: FakeHost, end: str, status: int) -> None:
    host.set(console_end=end)
    value = host.launch("--debug-mode")
    with host.start("console", "--enclave-id", value["EnclaveID"]) as console:
        assert console.stdout is not None
        assert console.stdout.readline() == "Connecting to the console for enclave 16...\n"
        assert console.stdout.readline() == "Successfully connected to the console.\n"
        assert "Linux version" in console.stdout.readline()
        os.kill(value["ProcessID"], signal.SIGTERM)
        _, err = console.communicate(timeout=60)
    assert console.returncode == status
    assert CAUSE.findall(err) == ([] if status == 0 else ["E45"])


def test_without_debug_mode_there_is_no_console(host: FakeHost) -> None:
    value = host.launch()
    refused(host.run("console", "--enclave-id", value["EnclaveID"]), "E44")


def test_an_attached_console_follows_the_object_on_standard_output(host: FakeHost) -> None:
    host.set(dies_after_s=3)  # time for a busy machine to attach
    ran = host.run(*LAUNCH, host.eif, "--attach-console")
    value, end = json.JSONDecoder().raw_decode(ran.out)
    assert value["EnclaveCID"] == 16
    assert ran.out[end:].startswith("\nConnecting to the console for enclave 16...\nSuccessfully connected")
    assert "Linux version" in ran.out[end:]


def test_an_enclave_that_dies_is_simply_absent(host: FakeHost) -> None:
    host.set(dies_after_s=0.3)
    value = host.launch()
    wait_until(lambda: not is_alive(value["ProcessID"]), "it dies")
    assert listed(host) == []
    assert "Received hang-up event" in host.read_log()
    refused(host.run("terminate-enclave", "--enclave-id", value["EnclaveID"]), "E11")


def test_a_killed_daemon_takes_the_enclave_with_it_and_leaves_a_stale_socket(host: FakeHost) -> None:
    value = host.launch()
    os.kill(value["ProcessID"], signal.SIGKILL)
    wait_until(lambda: not host.daemons(), "the payload ends with its daemon")
    assert len(list((host.home / "run").glob("*.sock"))) == 1
    assert listed(host) == []
    assert list((host.home / "run").iterdir()) == []


def test_the_driver_may_refuse_once(host: FakeHost) -> None:
    host.set(driver_error=16, driver_error_times=1)
    refused(host.run(*LAUNCH, host.eif), "E29", "E39")
    assert host.launch()["EnclaveCID"] == 16


def test_a_host_that_changes_keeps_its_owner(tmp_path: Path) -> None:
    # 0 is a host in containers: no process there sees the test, and a daemon that looked for it would end.
    with fake_host(tmp_path / "h", owner_pid=0) as made:
        made.set(sealed=True)
        assert (made.place.settings.owner_pid, made.place.settings.sealed) == (0, True)


def test_command_lines_are_remembered(host: FakeHost) -> None:
    host.run("--version")
    host.run("describe-enclaves", "--metadata")
    assert host.argv() == [["--version"], ["describe-enclaves", "--metadata"]]
