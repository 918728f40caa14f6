"""What enclavectl relies on of nitro-cli: the same assertions on the fake and on a real one.

Where the two differ, the fake is wrong. Without ``/dev/nitro_enclaves`` everything up to the launch can be
compared, and the launch's failure.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from enclavectl.eif.examine import read_image
from enclavectl.eif.format import SectionKind
from enclavectl.eif.measure import certificate_pcr
from enclavectl.eif.signature import parse_certificate
from enclavectl.eif.strictjson import JsonValue
from tests.e2e.cli import wait_until
from tests.eif import samples
from tests.nitro.fake.arguments import Said, parse
from tests.nitro.fake.declared import app_of
from tests.nitro.fake.failure import explanation
from tests.nitro.host import FakeHost, Ran, fake_host
from tests.nitro.real import NitroCli, real_nitro_cli

REAL = pytest.param("real", marks=pytest.mark.nitro_cli)
CAUSE = re.compile(r"\[ (E\d{2}) \]")
LOG = re.compile(r'please provide the error log found at "(.*)"\n$')
ABSENT = 'Os { code: 2, kind: NotFound, message: "No such file or directory" }'
SUBCOMMANDS = [command.name for command in app_of("1.5.2").commands]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """A fake host without the driver, as any machine that is no Nitro host."""
    home = tmp_path_factory.mktemp("bare") / "host"
    with fake_host(home, module=False, device="missing") as host:
        yield host


@pytest.fixture(params=["fake", REAL])
def nitro_cli(request: pytest.FixtureRequest, tmp_path: Path) -> NitroCli:
    """Either nitro-cli, with empty folders."""
    for name in ("log", "run"):
        (tmp_path / name).mkdir()
    if request.param == "real":
        return NitroCli(real_nitro_cli(), tmp_path)
    bare: FakeHost = request.getfixturevalue("bare")
    return NitroCli(bare.program, tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> NitroCli:
    """A real one, where the fake's own tables are what is tested."""
    for name in ("log", "run"):
        (tmp_path / name).mkdir()
    return NitroCli(real_nitro_cli(), tmp_path)


@pytest.fixture
def eif(tmp_path: Path) -> Path:
    path = tmp_path / "sample.eif"
    path.write_bytes(samples.image())
    return path


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and its certificate."""
    folder = tmp_path_factory.mktemp("signing")
    key = ec.generate_private_key(ec.SECP384R1())
    (folder / "key.pem").write_bytes(samples.key_pem(key))
    certificate = samples.certificate(key, start=datetime.now(UTC) - timedelta(days=1))
    (folder / "certificate.pem").write_bytes(certificate)
    return folder / "key.pem", folder / "certificate.pem"


def registers(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return read_image(file).measurements.registers()


def failed(ran: Ran, *codes: str) -> str:
    """Standard error of a command that failed with these codes, the last of them its exit status."""
    assert CAUSE.findall(ran.err) == list(codes)
    assert ran.status == int(codes[-1][1:])
    assert ran.out == ""
    for code in codes:
        link = f"https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#{code}\n"
        assert f"\nFor more details, please visit {link}" in ran.err
    return ran.err


def subactions(text: str) -> list[str]:
    """What the first backtrace says was being done, the cause last."""
    block = text.split("  Subactions:\n", 1)[1].split("\n  Root error file:", 1)[0]
    return [line.strip() for line in block.splitlines()]


def test_version(nitro_cli: NitroCli) -> None:
    ran = nitro_cli.run("--version")
    assert re.fullmatch(r"Nitro CLI \d+\.\d+\.\d+\n", ran.out)
    assert (ran.status, ran.err) == (0, "")


USAGE: list[Sequence[str]] = [
    [],
    ["--help"],
    ["help"],
    ["help", "pcr"],
    *([name, "--help"] for name in SUBCOMMANDS),
    *([name, "--bogus"] for name in SUBCOMMANDS),
    *([name] for name in SUBCOMMANDS if name not in {"describe-enclaves", "sign-eif"}),
    ["-x"],
    ["bogus"],
    ["describe"],
    ["run-enclaves"],
    ["terminate", "--all"],
    ["describe-enclaves", "--metadat"],
    ["describe-enclaves", "--metadata=3"],
    ["describe-enclaves", "x"],
    ["describe-eif", "--eif-path"],
    ["describe-eif", "--eif-path", "a", "--eif-path", "b"],
    ["terminate-enclave", "--all", "--enclave-id", "x"],
    ["console", "--enclave-id", "a", "--enclave-name", "b"],
    ["pcr", "--input", "a", "--signing-certificate", "b"],
    ["sign-eif", "--private-key", "x"],
    ["build-enclave", "--docker-uri", "x"],
    ["run-enclave", "--memory", "3"],
    ["run-enclave", "--debug"],
    ["run-enclave", "--eif", "x"],
    ["run-enclave", "--config", "x", "--memory", "3"],
    ["run-enclave", "--cpu-count", "2", "--memory", "-5", "--eif-path", "x"],
    ["run-enclave", "--cpu-count", "2", "--cpu-ids", "1", "2", "--memory", "3", "--eif-path", "x"],
]


@pytest.mark.nitro_cli
@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_help_and_usage_errors_are_the_same_to_the_byte(real: NitroCli, arguments: Sequence[str]) -> None:
    check_usage(real, arguments)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["pcr", "--help"], ["bogus"], ["describe-eif"]])
def test_the_fake_speaks_as_its_parser_does(bare: FakeHost, tmp_path: Path, arguments: Sequence[str]) -> None:
    check_usage(NitroCli(bare.program, tmp_path), arguments)


def check_usage(nitro_cli: NitroCli, arguments: Sequence[str]) -> None:
    with pytest.raises(Said) as said:
        parse(app_of("1.5.2"), arguments)
    ran = nitro_cli.run(*arguments)
    assert ran.status == said.value.status
    assert (ran.out, ran.err) == ((said.value.text, "") if ran.status == 0 else ("", said.value.text))
    assert CAUSE.search(ran.err) is None  # exit 2 is clap's, and E02's
    assert not (nitro_cli.logs / "nitro_enclaves.log").exists()  # none of this needs the log


def test_no_enclaves(nitro_cli: NitroCli) -> None:
    assert nitro_cli.run("describe-enclaves") == Ran(0, "[]\n", "")
    assert nitro_cli.run("describe-enclaves", "--metadata") == Ran(0, "[]\n", "")
    assert nitro_cli.run("terminate-enclave", "--all") == Ran(0, "[]\n", "")


def test_stale_sockets_are_cleared_away(nitro_cli: NitroCli) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(nitro_cli.sockets / "1b2c.sock"))
    (nitro_cli.sockets / "note.txt").write_text("stays")
    assert nitro_cli.run("describe-enclaves").out == "[]\n"
    assert [path.name for path in nitro_cli.sockets.iterdir()] == ["note.txt"]


def test_describe_eif(nitro_cli: NitroCli, eif: Path) -> None:
    ran = nitro_cli.run("describe-eif", "--eif-path", eif)
    assert (ran.status, ran.err) == (0, "")
    value = ran.json()
    algorithm = value["Measurements"].pop("HashAlgorithm")
    assert re.fullmatch(r"Sha\w+ \{ \.\.\.? \}", algorithm)
    assert value["Measurements"] == registers(eif)
    assert list(value) == [
        *("EifVersion", "Measurements", "IsSigned", "CheckCRC", "ImageName", "ImageVersion", "Metadata")
    ]
    assert (value["EifVersion"], value["IsSigned"], value["CheckCRC"]) == (4, False, True)
    assert value["Metadata"] == {
        "BuildTime": "2024-01-01T00:00:00+00:00",
        "BuildTool": "enclavectl",
        "BuildToolVersion": "0",
        "OperatingSystem": "Linux",
        "KernelVersion": "6.12",
        "DockerInfo": None,
    }
    assert ran.out.startswith('{\n  "EifVersion": 4,\n  "Measurements": {\n    "HashAlgorithm"')


def test_a_wrong_crc_is_a_field_and_no_error(nitro_cli: NitroCli, eif: Path) -> None:
    data = bytearray(eif.read_bytes())
    data[700] ^= 1
    eif.write_bytes(data)
    ran = nitro_cli.run("describe-eif", "--eif-path", eif)
    assert ran.status == 0
    assert ran.json()["CheckCRC"] is False


def test_custom_metadata_lies_flat_and_has_to_be_an_object(nitro_cli: NitroCli, eif: Path) -> None:
    def write(custom: JsonValue) -> None:
        metadata = replace(samples.METADATA, custom=custom).to_bytes()
        parts = samples.sections()
        parts[2] = (SectionKind.METADATA, metadata)
        eif.write_bytes(samples.image(parts))

    write({"Team": "skin"})
    described = nitro_cli.run("describe-eif", "--eif-path", eif).json()
    assert (described["Metadata"]["Team"], described["CheckCRC"]) == ("skin", True)
    write([1])
    failed(nitro_cli.run("describe-eif", "--eif-path", eif), "E17")


def test_no_image_is_a_parsing_error(nitro_cli: NitroCli, tmp_path: Path) -> None:
    failed(nitro_cli.run("describe-eif", "--eif-path", tmp_path / "absent.eif"), "E35")
    (tmp_path / "text.eif").write_text("no image\n" * 200)
    failed(nitro_cli.run("describe-eif", "--eif-path", tmp_path / "text.eif"), "E35")


def test_sign_eif(nitro_cli: NitroCli, eif: Path, signing: tuple[Path, Path]) -> None:
    key, certificate = signing
    before = eif.read_bytes()
    arguments = ("--eif-path", eif, "--private-key", key, "--signing-certificate", certificate)
    ran = nitro_cli.run("sign-eif", *arguments)
    assert (ran.status, ran.err) == (0, "Enclave Image successfully signed.\n")
    assert eif.read_bytes() != before  # in place
    measured = ran.json()["Measurements"]
    assert list(ran.json()) == ["Measurements"]
    pcr8 = certificate_pcr(der_of(certificate))
    assert {**registers(eif), "PCR8": pcr8} == {k: v for k, v in measured.items() if k != "HashAlgorithm"}
    described = nitro_cli.run("describe-eif", "--eif-path", eif).json()
    assert (described["IsSigned"], described["SignatureCheck"], described["CheckCRC"]) == (True, True, True)
    assert list(described["SigningCertificate"]) == [
        *("IssuerName", "Algorithm", "NotBefore", "NotAfter", "Signature")
    ]
    assert described["SigningCertificate"]["IssuerName"] == {"commonName": "test"}
    assert described["SigningCertificate"]["Algorithm"] == "ecdsa-with-SHA384"
    ends = described["SigningCertificate"]["NotAfter"].replace("GMT", "+0000")
    assert datetime.strptime(ends, "%b %d %H:%M:%S %Y %z") > datetime.now(UTC)


def der_of(certificate: Path) -> bytes:
    return parse_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)


def test_sign_eif_refuses(nitro_cli: NitroCli, eif: Path, signing: tuple[Path, Path], tmp_path: Path) -> None:
    key, certificate = signing
    before = eif.read_bytes()
    failed(nitro_cli.run("sign-eif"), "E01")
    failed(nitro_cli.run("sign-eif", "--eif-path", eif), "E60")
    pair = ("--private-key", key, "--signing-certificate", certificate)
    failed(nitro_cli.run("sign-eif", "--eif-path", tmp_path / "absent.eif", *pair), "E60")
    pair = ("--private-key", key, "--signing-certificate", tmp_path / "absent.pem")
    text = failed(nitro_cli.run("sign-eif", "--eif-path", eif, *pair), "E60")
    assert text.startswith('Could not read signing info: "Could not open the certificate file: Os { code: 2,')
    pair = ("--private-key", certificate, "--signing-certificate", certificate)
    failed(nitro_cli.run("sign-eif", "--eif-path", eif, *pair), "E60")
    assert eif.read_bytes() == before


def test_pcr(nitro_cli: NitroCli, signing: tuple[Path, Path], tmp_path: Path) -> None:
    _, certificate = signing
    ran = nitro_cli.run("pcr", "--signing-certificate", certificate)
    assert ran == Ran(0, json.dumps({"PCR8": certificate_pcr(der_of(certificate))}, indent=2) + "\n", "")
    (tmp_path / "abc").write_bytes(b"abc")
    ran = nitro_cli.run("pcr", "--input", tmp_path / "abc")
    assert ran == Ran(0, json.dumps({"PCR": certificate_pcr(b"abc")}, indent=2) + "\n", "")
    failed(nitro_cli.run("pcr", "--input", tmp_path / "absent"), "E19")
    failed(nitro_cli.run("pcr", "--signing-certificate", tmp_path / "abc"), "E57")


def test_explain(nitro_cli: NitroCli) -> None:
    """On stderr, exit 0 also for what it does not know, and some codes were forgotten."""
    assert nitro_cli.run("explain", "--error-code", "E19").err.startswith(
        "File operation failure. Such error"
    )
    for code in ("e19", "E57", "E61"):
        ran = nitro_cli.run("explain", "--error-code", code)
        assert ran == Ran(0, "", f"No such error code {code}\n")


@pytest.mark.nitro_cli
def test_every_explanation_is_the_same(real: NitroCli) -> None:
    for code in (*(f"E{number:02}" for number in range(62)), "19", ""):
        assert real.run("explain", "--error-code", code) == Ran(0, "", explanation(code) + "\n")


@pytest.mark.parametrize("command", ["describe-enclaves", "describe-eif", "pcr", "explain"])
def test_without_a_log_folder_nothing_works(nitro_cli: NitroCli, command: str) -> None:
    nitro_cli.logs.rmdir()
    arguments = {
        "describe-eif": ("--eif-path", "x"),
        "pcr": ("--input", "x"),
        "explain": ("--error-code", "E19"),
    }.get(command, ())
    text = failed(nitro_cli.run(command, *arguments), "E19")
    log = nitro_cli.logs / "nitro_enclaves.log"
    assert f"\nFile: '{log}', failing operation: 'Open'.\n" in text
    # The report of the failure makes the folder, so that the second try works.
    assert nitro_cli.run("describe-enclaves") == Ran(0, "[]\n", "")


def test_without_a_socket_folder(nitro_cli: NitroCli, eif: Path) -> None:
    nitro_cli.sockets.rmdir()
    failed(nitro_cli.run("describe-enclaves"), "E07")
    failed(nitro_cli.run("terminate-enclave", "--enclave-name", "x"), "E07")
    text = failed(nitro_cli.run("terminate-enclave", "--all"), "E19")
    assert f"\nFile: '{nitro_cli.sockets}', failing operation: 'Read'.\n" in text


def test_a_launch_that_fails_before_its_daemon_is_asked_leaves_that_behind(
    nitro_cli: NitroCli, eif: Path
) -> None:
    """It holds both ends of its connection to the command, and waits for ever."""
    nitro_cli.sockets.rmdir()
    failed(nitro_cli.run("run-enclave", "--eif-path", eif, "--memory", "64", "--cpu-count", "2"), "E07")

    def left() -> list[int]:
        return [pid for pid, command in processes() if os.fsencode(eif) in command]

    wait_until(lambda: len(left()) == 1, "one daemon is left")
    [daemon] = left()
    assert sockets_of(daemon) >= 2
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: left() == [], "it has ended")


def processes() -> list[tuple[int, bytes]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found.append((int(entry.name), (entry / "cmdline").read_bytes()))
    return found


def sockets_of(pid: int) -> int:
    """How many sockets a process holds."""
    folder = Path(f"/proc/{pid}/fd")
    return sum(str(link.readlink()).startswith("socket:") for link in folder.iterdir())


def test_unknown_enclaves(nitro_cli: NitroCli) -> None:
    failed(nitro_cli.run("terminate-enclave", "--enclave-id", "i-0-enc12"), "E11")
    failed(nitro_cli.run("terminate-enclave", "--enclave-name", "nobody"), "E58")
    failed(nitro_cli.run("console", "--enclave-id", "i-0-enc12"), "E11")
    failed(nitro_cli.run("console", "--enclave-name", "nobody"), "E58")


def test_an_error_has_a_log_with_the_cause_and_shows_it_when_asked(nitro_cli: NitroCli) -> None:
    arguments = ("terminate-enclave", "--enclave-id", "i-0-enc12")
    plain = nitro_cli.run(*arguments).err
    match = LOG.search(plain)
    assert match is not None
    log = Path(match[1])
    assert log.parent == nitro_cli.logs
    assert re.fullmatch(r"err\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00\.log", log.name)
    text = log.read_text()
    expected = [
        "Failed to connect to enclave process",
        f"Failed to connect to specific enclave process: {ABSENT}",
    ]
    assert text.startswith("  Action: Terminate Enclave\n  Subactions:\n    ")
    assert subactions(text) == expected
    assert re.search(r"\n  Root error file: .*src/enclave_proc_comm\.rs\n  Root error line: \d+\n", text)
    assert "Backtrace" not in plain
    told = nitro_cli.run(*arguments, env={"BACKTRACE": "1"}).err
    assert f"\n\nBacktrace:\n{text}\n\nIf you open a support ticket" in told


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--cpu-count", "2", "--memory", "64KB"), "E03", "`memory` is not a valid integer (`64KB`)"),
        (("--cpu-count", "2", "--memory", "64MiB"), "E03", "`memory` is not a valid integer (`64MiB`)"),
        (("--cpu-count", "2", "--memory", "1.5G"), "E03", "`memory` is not a valid integer (`1.5G`)"),
        (("--cpu-count", "2", "--memory", "G"), "E03", "`memory` is not a valid integer (`G`)"),
        (("--cpu-count", "two", "--memory", "64"), "E03", "`cpu-count` is not a valid integer (`two`)"),
        (("--cpu-ids", "1,3", "--memory", "64"), "E03", "`cpu-id` is not a valid integer (`1,3`)"),
        *(
            (("--cpu-count", "2", "--memory", "64", "--enclave-cid", cid), "E03", "`MISSING_INFO`")
            for cid in ("1", "2", "3", "4294967295", "4294967296")
        ),
        (
            ("--cpu-count", "2", "--memory", "64", "--enclave-cid", "x"),
            "E03",
            "`enclave-cid` is not a valid integer (`x`)",
        ),
    ],
)
def test_run_checks_its_values_by_hand(
    nitro_cli: NitroCli, eif: Path, arguments: Sequence[str], code: str, told: str
) -> None:
    assert told in failed(nitro_cli.run("run-enclave", "--eif-path", eif, *arguments), code)


@pytest.mark.parametrize(
    ("config", "codes"),
    [
        ("{}", ["E17"]),
        ("no json", ["E17"]),
        ('{"eif_path": "a", "memory_mib": "64M", "cpu_count": 2}', ["E17"]),
        ('{"eif_path": "a", "memory_mib": 64}', ["E01"]),
        ('{"eif_path": "a", "memory_mib": 64, "cpu_cout": 2}', ["E01"]),
        ('{"eif_path": "a", "memory_mib": 64, "cpu_count": 2, "cpu_ids": [1]}', ["E02"]),
        ('{"eif_path": "absent", "memory_mib": 64, "cpu_count": 2}', ["E19", "E39"]),
    ],
)
def test_run_with_a_configuration_file(nitro_cli: NitroCli, config: str, codes: Sequence[str]) -> None:
    path = nitro_cli.home / "config.json"
    failed(nitro_cli.run("run-enclave", "--config", path), "E19")
    path.write_text(config)
    failed(nitro_cli.run("run-enclave", "--config", path), *codes)


@pytest.mark.parametrize("memory", ["64", "64M", "1g"])
def test_a_launch_without_the_driver_tells_the_cause_before_the_error(
    nitro_cli: NitroCli, eif: Path, memory: str
) -> None:
    arguments = ("run-enclave", "--eif-path", eif, "--memory", memory, "--cpu-count", "2")
    text = failed(nitro_cli.run(*arguments, env={"BACKTRACE": "1"}), "E19", "E39")
    pool = "/sys/module/nitro_enclaves/parameters/ne_cpus"
    assert f"\nFile: '{pool}', failing operation: 'Open'.\n" in text
    assert subactions(text) == [
        "Failed to execute command `Run`",
        "Failed to trigger enclave run",
        "Failed to construct CPU information",
        "Failed to open CPU pool file: No such file or directory (os error 2)",
    ]
    cause, separator, error = text.partition("Failed connections: 1\n[ E39 ]")
    assert separator
    assert subactions(error) == [
        "Failed to handle all enclave process replies",
        "Failed to connect to 1 enclave processes",
    ]
    logs = re.findall(r'error log found at "(.*)"', text)
    assert len(logs) == 2
    assert "Failed to open CPU pool file" in Path(logs[0]).read_text()
    assert LOG.search(cause)


def test_a_launch_without_the_image(nitro_cli: NitroCli, tmp_path: Path) -> None:
    path = tmp_path / "absent.eif"
    arguments = (
        "run-enclave",
        "--eif-path",
        path,
        "--memory",
        "64",
        "--cpu-count",
        "2",
        "--enclave-cid",
        "0",
    )
    text = failed(nitro_cli.run(*arguments), "E19", "E39")
    assert text.startswith("The enclave CID will be auto-generated as the provided CID is 0\n[ E19 ]")
    assert f"\nFile: '{path}', failing operation: 'Open'.\n" in text


def test_a_build_without_the_boot_files(nitro_cli: NitroCli, tmp_path: Path) -> None:
    output = tmp_path / "out.eif"
    ran = nitro_cli.run("build-enclave", "--docker-uri", "x", "--output-file", output)
    text = failed(ran, "E19")
    assert text.startswith("Start building the Enclave Image...\n[ E19 ]")
    assert f"File: '{nitro_cli.home / 'blobs'}/cmdline', failing operation: 'Open'." in text
