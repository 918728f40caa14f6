"""systemd units: their words, their order, and what systemd itself says of them."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.deploy import gateway_unit
from enclavectl.deploy.gateway_unit import GatewayUnitRequest
from enclavectl.deploy.release_unit import ReleaseUnitRequest, install_release, release_unit
from enclavectl.deploy.systemd import (
    Endpoint,
    UnitsRequest,
    answers_file,
    install_commands,
    parse_endpoint,
    write_units,
)
from enclavectl.deploy.words import UnitFile, exec_line
from enclavectl.errors import UsageError
from enclavectl.host.checks import gateway as checks
from tests.cli.command import enclavectl

REQUEST = UnitsRequest(
    name="skin",
    eif=Path("/srv/enclave.eif"),
    memory_mib=8192,
    cpus=4,
    cid=16,
    user="root",
    home=Path("/root"),
    state_dir=Path("/root/.local/state/enclavectl"),
    enclavectl=Path("/usr/bin/env"),
    boot_bound_s=180,
    endpoints=(Endpoint(local=8001, host="kms.eu-west-1.amazonaws.com", port=443),),
    vsock_proxy=Path("/usr/bin/env"),
)
KEYS = ("Type", "RemainAfterExit", "ExecStart", "ExecStop", "Requires", "After")


def texts(request: UnitsRequest) -> dict[str, str]:
    return {file.name: file.text for file in write_units(request)}


def values(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and line[0] not in "#[")
    return {key: value for key, _, value in pairs}


def test_the_enclaves_unit_keeps_what_it_started_and_ends_it_by_terminate() -> None:
    unit = values(texts(REQUEST)["enclavectl-enclave-skin.service"])
    assert {key: unit[key] for key in KEYS} == {
        "Type": "oneshot",
        "RemainAfterExit": "yes",
        "ExecStart": "/usr/bin/env run /srv/enclave.eif --name skin --backend nitro --memory 8192 --cpus 4 "
        "--cid 16",
        "ExecStop": "/usr/bin/env terminate skin --backend nitro",
        "Requires": "nitro-enclaves-allocator.service",
        "After": "nitro-enclaves-allocator.service enclavectl-vsock-proxy-8001.service",
    }
    text = texts(REQUEST)["enclavectl-enclave-skin.service"]
    assert "Environment=HOME=/root\n" in text
    assert "Environment=NITRO_CLI_ARTIFACTS=/root/.nitro_cli\n" in text
    assert int(unit["TimeoutStartSec"]) > 180
    # After an unclean end of the host the name is taken by an enclave that is dead.
    assert unit["ExecStartPre"] == "-/usr/bin/env terminate skin --backend nitro"


def test_each_endpoint_has_a_proxy_and_a_list_of_its_own() -> None:
    found = texts(REQUEST)
    unit = values(found["enclavectl-vsock-proxy-8001.service"])
    assert unit["ExecStart"].endswith(
        "--config /etc/nitro_enclaves/enclavectl-vsock-proxy-8001.yaml 8001 kms.eu-west-1.amazonaws.com 443"
    )
    allowed = yaml.safe_load(found["enclavectl-vsock-proxy-8001.yaml"])
    assert allowed == {"allowlist": [{"address": "kms.eu-west-1.amazonaws.com", "port": 443}]}


def test_the_proxies_are_enabled_before_the_enclave() -> None:
    commands = install_commands(REQUEST, write_units(REQUEST), "/tmp/my units")
    assert commands[1].startswith(
        "sudo install -m 0644 '/tmp/my units/enclavectl-enclave-skin.service' /etc/systemd"
    )
    assert commands[-2] == "sudo systemctl daemon-reload"
    assert commands[-1].split()[4] == "enclavectl-vsock-proxy-8001.service"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8001:a.b:443", Endpoint(local=8001, host="a.b", port=443)),
        ("1:10.0.0.1:1", Endpoint(local=1, host="10.0.0.1", port=1)),
        ("4294967294:[fd00::1]:65535", Endpoint(local=4294967294, host="fd00::1", port=65535)),
    ],
)
def test_endpoints_are_read(text: str, expected: Endpoint) -> None:
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "8001", "8001:443", "0:a:443", "8001:a:0", "8001:a:65536", "4294967295:a:1", "8001:a b:443",
     "8001:a\nb:443", "x:a:443", "8001::443", "8001:-a:443", '8001:a"b:443', "9000:a.b:443"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--endpoint"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"name": "../x"},
        {"name": ""},
        {"user": "a\nExecStart=/bin/x"},
        {"eif": Path("enclave.eif")},
        {"endpoints": REQUEST.endpoints * 2},
    ],
)
def test_what_systemd_would_misread_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(REQUEST, **change)  # type: ignore[arg-type]  # one value of any field's type


def test_words_are_quoted_as_systemd_unquotes_them() -> None:
    assert exec_line(["/a b", "50%", "$HOME", 'x"y\\z']) == '"/a b" 50%% "$$HOME" "x\\"y\\\\z"'
    with pytest.raises(UsageError, match="control characters"):
        exec_line(["a\nb"])


SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def verify(folder: Path, request: UnitsRequest) -> tuple[int, str]:
    """What systemd says of the units, beside a stand-in for AWS's allocator."""
    units = [file for file in write_units(request) if file.name.endswith(".service")]
    for file in units:
        (folder / file.name).write_text(file.text)
    stub = "[Service]\nType=oneshot\nRemainAfterExit=true\nExecStart=/bin/true\n"
    (folder / "nitro-enclaves-allocator.service").write_text(stub)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(folder / file.name for file in units)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "enclavectl-" in line]
    return done.returncode, "\n".join(ours)


@SYSTEMD
def test_systemd_has_nothing_to_say_against_them(tmp_path: Path) -> None:
    code, said = verify(tmp_path, replace(REQUEST, policy=Path("/srv/a policy.yaml")))
    assert said == ""
    assert code == 0


@SYSTEMD
def test_systemd_would_say_it_of_a_broken_one(tmp_path: Path) -> None:
    """So that the silence above means something."""
    _, said = verify(tmp_path, replace(REQUEST, enclavectl=Path("/no/such/program")))
    assert "/no/such/program" in said


@SYSTEMD
@pytest.mark.parametrize("name", [name for name in texts(REQUEST) if name.endswith(".service")])
def test_systemd_rates_each_unit_as_little_exposed(name: str, tmp_path: Path) -> None:
    """9.4 UNSAFE without any setting. The scale is 0 to 10, in JSON 0 to 100."""
    request = replace(REQUEST, user="ec2-user", home=Path("/home/ec2-user"))
    (tmp_path / name).write_text(texts(request)[name])
    argv = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--threshold=30",
        "--no-pager",
        str(tmp_path / name),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout[-600:] + done.stderr


def test_what_the_units_need_is_left_to_them() -> None:
    unit = texts(REQUEST)["enclavectl-enclave-skin.service"]
    assert "DeviceAllow=/dev/nitro_enclaves rw\n" in unit
    assert "RestrictAddressFamilies=AF_UNIX AF_VSOCK\n" in unit
    # What hides the sockets and the memory of the host, by which it is seen what runs and what fits.
    assert "PrivateNetwork" not in unit
    assert "ProcSubset" not in unit
    writable = values(unit)["ReadWriteDirectories"].split()
    assert writable == [
        "-/root/.local/state/enclavectl",
        "-/root/.nitro_cli",
        "-/run/nitro_enclaves",
        "-/var/log/nitro_enclaves",
    ]
    assert "Environment=ENCLAVECTL_STATE_DIR=/root/.local/state/enclavectl\n" in unit
    proxy = texts(REQUEST)["enclavectl-vsock-proxy-8001.service"]
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_VSOCK\n" in proxy


def test_the_state_folder_is_made_by_its_user_before_the_units_start() -> None:
    request = replace(REQUEST, user="ec2-user", state_dir=Path("/home/ec2-user/my state"))
    commands = install_commands(request, write_units(request), "units")
    assert commands[0] == "sudo -u ec2-user mkdir -p -m 0700 '/home/ec2-user/my state'"


def test_stopping_the_listener_is_no_failure() -> None:
    """SIGTERM ends a command with the code of an interruption."""
    assert values(texts(REQUEST)["enclavectl-listen.service"])["SuccessExitStatus"] == "130"


def test_the_listener_keeps_answers_in_a_file_of_its_users_and_out_of_the_journal(tmp_path: Path) -> None:
    program = tmp_path / "enclavectl"
    program.write_text('#!/bin/sh\necho "{\\"answer\\": \\"$*\\"}"; echo a note >&2\n')
    program.chmod(0o755)
    state = tmp_path / "my $state"
    state.mkdir()
    request = replace(REQUEST, enclavectl=program, state_dir=state)
    unit = texts(request)["enclavectl-listen.service"]
    assert "StandardOutput=null\n" in unit
    # systemd's own unquoting of what is used here: "$$" and escapes inside double quotes.
    argv = [word.replace("$$", "$") for word in shlex.split(values(unit)["ExecStart"])]
    for _ in range(2):
        done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/")
        assert (done.stdout, done.stderr) == ("", "a note\n")
    kept = answers_file(request)
    assert kept.read_text() == '{"answer": "listen --backend nitro --output json"}\n' * 2
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=4))
def test_no_word_can_begin_a_line_or_a_specifier_of_its_own(words: list[str]) -> None:
    line = exec_line(["/x", *words])
    assert "\n" not in line
    assert "%" not in line.replace("%%", "")
    assert "$" not in line.replace("$$", "")


def test_the_command_writes_the_files_and_says_what_to_run(tmp_path: Path) -> None:
    arguments = ["units", "--name", "skin", "--endpoint", "8001:a.b:443", "--to", tmp_path / "out"]
    done = enclavectl(*arguments, "--output", "json", home=tmp_path)
    assert done.status == 0, done.err
    answer = done.json()
    assert answer["schema"] == "enclavectl.units/1"
    files = cast("list[dict[str, str]]", answer["files"])
    assert {one["name"] for one in files} == {path.name for path in (tmp_path / "out").iterdir()}
    assert any("systemctl enable --now" in line for line in cast("list[str]", answer["commands"]))
    unit = (tmp_path / "out" / "enclavectl-enclave-skin.service").read_text()
    program = values(unit)["ExecStart"].split()[0]
    assert Path(program).is_absolute()
    assert Path(program).is_file()
    assert f"run {tmp_path}/enclave.eif --name skin" in unit
    assert enclavectl(*arguments, home=tmp_path).status == 0  # its own files are written anew
    listener = tmp_path / "out" / "enclavectl-listen.service"
    for foreign in ("[Unit]\n", f"# mine\n# from:\n{listener.read_text()}"):
        listener.write_text(foreign)
        refused = enclavectl(*arguments, "--output", "json", home=tmp_path)
        assert refused.status == 2
        assert listener.read_text() == foreign


def test_the_command_prints_where_nothing_is_named(tmp_path: Path) -> None:
    done = enclavectl("units", home=tmp_path)
    assert done.status == 0
    assert "# ==> /etc/systemd/system/enclavectl-enclave-enclave.service" in done.out
    assert "systemctl daemon-reload" in done.err
    assert "enclave.eif: not there yet" in done.err
    assert enclavectl("units", "--user", "no-such-user", home=tmp_path).status == 2
    assert enclavectl("units", "--cid", "3", home=tmp_path).status == 2


GATEWAY = replace(REQUEST, has_gateway=True)


def test_the_gateways_unit_has_a_user_of_its_own_and_no_device() -> None:
    found = texts(GATEWAY)
    assert "enclavectl-gateway.service" not in texts(REQUEST)
    text = found["enclavectl-gateway.service"]
    unit = values(text)
    assert unit["User"] == "enclavectl-gateway"
    assert (unit["PrivateDevices"], unit["DevicePolicy"]) == ("yes", "closed")
    assert "DeviceAllow" not in text
    assert (unit["CapabilityBoundingSet"], unit["ProtectSystem"], unit["ProtectHome"]) == (
        "",
        "strict",
        "yes",
    )
    assert unit["RestrictAddressFamilies"] == "AF_UNIX AF_INET AF_INET6 AF_VSOCK"
    assert "--cert /etc/enclavectl/gateway/cert.pem" in unit["ExecStart"]
    assert "--anonymous" not in text
    assert "ExecReload=/bin/kill -HUP $MAINPID\n" in text
    enclave = found["enclavectl-enclave-skin.service"]
    assert "Environment=ENCLAVECTL_GATEWAY_ANNOUNCE=/var/lib/enclavectl-announced\n" in enclave
    assert "-/var/lib/enclavectl-announced" in values(enclave)["ReadWriteDirectories"]


def test_the_doctor_looks_where_the_gateways_unit_has_its_files() -> None:
    assert f"/etc/systemd/system/{gateway_unit.UNIT}" == checks.UNIT
    names = (gateway_unit.USER, gateway_unit.ANNOUNCED, gateway_unit.CERTIFICATE, gateway_unit.KEY)
    assert names == (checks.GROUP, checks.ANNOUNCED, checks.CERTIFICATE, checks.KEY)


def test_the_gateways_user_folders_and_first_token_come_before_its_start() -> None:
    commands = install_commands(GATEWAY, write_units(GATEWAY), "units")
    words = ["useradd", "/var/lib/enclavectl-gateway", "2750", "token add", "enable --now"]
    places = [next(at for at, line in enumerate(commands) if word in line) for word in words]
    assert places == sorted(places)


RELEASE = ReleaseUnitRequest(name="flowers", enclavectl=Path("/usr/bin/env"))


@SYSTEMD
@pytest.mark.parametrize(
    "unit",
    [gateway_unit.gateway_unit(GatewayUnitRequest(enclavectl=Path("/usr/bin/env"), enclaves_user="root")),
     release_unit(RELEASE)],
    ids=["gateway", "release"],
)  # fmt: skip
def test_systemd_rates_services_of_the_network_at_2_0_or_better(tmp_path: Path, unit: UnitFile) -> None:
    path = tmp_path / unit.name
    path.write_text(unit.text)
    verified = ["systemd-analyze", "verify", "--man=no", str(path)]
    rated = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(path)]
    for argv in (verified, rated):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout[-600:] + done.stderr
        assert unit.name not in done.stderr


def test_the_owners_unit_reads_its_key_as_a_user_of_its_own_and_reaches_no_vsock() -> None:
    text = release_unit(RELEASE).text
    unit = values(text)
    assert unit["User"] == "enclavectl-release"
    assert unit["ExecStart"] == (
        "/usr/bin/env model release /var/lib/enclavectl-release/flowers.key "
        '--policy /etc/enclavectl/release/flowers.yaml --listen "tls:[::]:7443" '
        "--cert /etc/enclavectl/release/cert.pem --cert-key /etc/enclavectl/release/key.pem "
        "--log /var/lib/enclavectl-release/flowers.jsonl"
    )
    assert unit["RestrictAddressFamilies"] == "AF_UNIX AF_INET AF_INET6"
    assert unit["ReadWriteDirectories"] == "-/var/lib/enclavectl-release"
    assert "DeviceAllow" not in text


def test_the_owners_user_and_key_come_before_the_services_start() -> None:
    commands = install_release(RELEASE, release_unit(RELEASE), "units")
    words = ["useradd", "-m 0600 -o enclavectl-release", "flowers.yaml", "cert.pem", "enable --now"]
    places = [next(at for at, line in enumerate(commands) if word in line) for word in words]
    assert places == sorted(places)


def test_the_command_writes_the_owners_unit_and_no_other(tmp_path: Path) -> None:
    done = enclavectl("units", "--release", "--name", "flowers", "-o", "json", home=tmp_path)
    assert done.status == 0, done.err
    (one,) = cast("list[dict[str, str]]", done.json()["files"])
    assert one["name"] == "enclavectl-release-flowers.service"
    refused = enclavectl("units", "--release", "--gateway", home=tmp_path)
    assert refused.status == 2
    assert "no --gateway" in refused.err
    assert enclavectl("units", "--release", "--name", "a b", home=tmp_path).status == 2
