"""The data owner's half of the network, with the installed command: an enclave elsewhere, behind relays."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import zlib
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from enclavectl.net.address import UnixAddress, parse_address
from tests.cli.terminal import on_terminal
from tests.e2e.cli import Cli, sample
from tests.net.certificates import Authority, server_context
from tests.net.peers import Script, relay_to, start_peer, start_proxy, start_web_server, start_websocket_relay

TOKEN = "aGVsbG8"


class Site:
    """An operator's machine with an enclave, and a data owner's with nothing but a policy and a root."""

    def __init__(self, operator: Cli, owner: Cli) -> None:
        self.owner = owner
        self.operator = operator
        described = operator.ok("describe", "shared", "--output", "json").json()
        address = parse_address(described["enclave"]["address"])
        assert isinstance(address, UnixAddress)
        self.address = address
        self.policy = owner.base / "policy.yaml"
        operator.ok("describe", "shared", "--policy-file", self.policy)
        self.root = owner.base / "root.pem"
        self.root.write_bytes(operator.root.read_bytes())
        self.authority = Authority(owner.base)
        self.token = owner.base / "token"
        self.token.write_text(f"{TOKEN}\n")

    def add(self, name: str, address: str, *more: str | Path) -> None:
        self.owner.ok("remote", "add", name, address, "--policy", self.policy, "--root", self.root, *more)


@pytest.fixture
def site(shared: Cli, tmp_path: Path) -> Site:
    (tmp_path / "home").mkdir()
    return Site(shared, Cli(tmp_path))


def needs_token(connection: ServerConnection, request: Request) -> Response | None:
    if request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")


def answers(value: Any) -> list[str]:
    return [result["label"]["code"] for result in value["results"]]


def test_a_day_with_a_remote(site: Site) -> None:
    """Added, checked, used by name, by default, after a new token, and removed."""
    context = server_context(site.authority.issue("localhost"))
    with start_websocket_relay(site.address, context, judge=needs_token) as peer:
        address = f"wss://localhost:{peer.port}/v1"
        site.add("hospital", address, "--ca", site.authority.file, "--token-file", site.token)
        for path in (site.policy, site.root, site.authority.file, site.token):
            path.unlink()
        checked = site.owner.ok("remote", "check", "hospital", "--output", "json").json()
        assert [step["step"] for step in checked["steps"]] == [
            *("files", "connect", "tls", "upgrade", "evidence"),
        ]
        found = site.owner.ok(
            "diagnose", "--remote", "hospital", sample("bcc"), sample("mel"), "--output", "json"
        ).json()
        assert (found["backend"], found["trust"], answers(found)) == ("remote", "simulated", ["bcc", "mel"])
        site.owner.ok("remote", "update", "hospital", "--default")
        assert "expected a part" in site.owner.refused(2, "remote", "update", "hospital")["message"]
        ran = site.owner.ok("diagnose", sample("nv"), "--output", "json")
        assert answers(ran.json()) == ["nv"]
        assert f"using the remote hospital at {address}, which is the default" in ran.err
        assert TOKEN not in site.owner.ok("remote", "show", "hospital").out
        site.token.write_text("revoked")
        for words in ("", "nothing changes"):  # an update that was made already is no mistake
            assert words in site.owner.ok("remote", "update", "hospital", "--token-file", site.token).err
        assert site.owner.refused(2, "diagnose", sample("nv"))["code"] == "token-refused"
        checked = site.owner.run("remote", "check", "hospital", "--output", "json")
        assert checked.status == 2
        assert [step["passed"] for step in checked.json()["steps"]] == [True, True, True, False]
    listed = site.owner.ok("remote", "list", "--output", "json").json()
    assert [(one["name"], one["is_default"]) for one in listed["remotes"]] == [("hospital", True)]
    assert site.owner.refused(6, "diagnose", sample("nv"))["code"] == "not-listening"
    site.owner.ok("remote", "remove", "hospital")
    assert site.owner.ok("remote", "list", "--output", "json").json()["remotes"] == []


def test_frames_over_tls_through_a_proxy(site: Site) -> None:
    context = server_context(site.authority.issue("gateway.test"), alpn="enclavectl/1")
    with (
        start_peer(relay_to(site.address), context) as peer,
        start_proxy({"gateway.test:8443": peer.port}) as proxy,
    ):
        found = site.owner.ok(
            *("diagnose", "--connect", "tls:gateway.test:8443", "--policy", site.policy, "--root", site.root),
            *("--ca", site.authority.file, sample("bcc"), "--output", "json"),
            env={"https_proxy": f"http://127.0.0.1:{proxy.port}"},
        ).json()
    assert answers(found) == ["bcc"]
    assert proxy.seen == ["CONNECT gateway.test:8443 HTTP/1.1"]


def test_tls_inspection_by_a_company(site: Site, tmp_path: Path) -> None:
    """A proxy that opens TLS with a CA of its own: refused unless that CA is named, and even then blind."""
    (tmp_path / "company").mkdir()
    company = Authority(tmp_path / "company", "company CA")
    mark = b"PLANTED-IN-A-PICTURE-51c2"
    picture = tmp_path / "planted.png"
    picture.write_bytes(planted(sample("bcc").read_bytes(), mark))
    seen: list[bytes] = []
    inner = server_context(site.authority.issue("localhost"))
    with start_websocket_relay(site.address, inner, judge=needs_token) as gateway:
        reading = inspect_to(gateway.port, site.authority, seen)
        with start_peer(reading, server_context(company.issue("localhost"))) as inspector:
            to = ("--connect", f"wss://localhost:{inspector.port}", "--policy", site.policy)
            rest = ("--root", site.root, "--token-file", site.token, picture)
            error = site.owner.refused(3, "diagnose", *to, "--ca", site.authority.file, *rest)
            assert error["code"] == "tls-issuer"
            assert "inspects TLS" in error["hint"]
            assert seen == []
            found = site.owner.ok("diagnose", *to, "--ca", company.file, *rest, "--output", "json").json()
    assert answers(found) == ["bcc"]
    read = b"".join(seen)
    assert TOKEN.encode() in read, "it sees what the gateway sees"
    assert len(read) > picture.stat().st_size
    assert mark not in read


def planted(png: bytes, mark: bytes) -> bytes:
    """The picture with a comment in it."""
    body = b"tEXtComment\0" + mark * 50
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


def inspect_to(port: int, authority: Authority, seen: list[bytes]) -> Script:
    """Read what a client says, and say it to the gateway by TLS of one's own."""

    def copy(source: socket.socket, sink: socket.socket, keep: list[bytes]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                keep.append(data)
                sink.sendall(data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def script(client: socket.socket) -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as gateway,
        ):
            answers_back = threading.Thread(target=copy, args=(gateway, client, []))
            answers_back.start()
            copy(client, gateway, seen)
            answers_back.join()

    return script


def test_send_to_a_remote(site: Site) -> None:
    with start_websocket_relay(site.address) as peer:
        site.add("here", f"ws://127.0.0.1:{peer.port}")
        sent = site.owner.ok("send", "--remote", "here", sample("bcc"), "--output", "json").json()
    assert (sent["backend"], len(sent["results"])) == ("remote", 1)
    assert "request_id" in sent["results"][0]


def test_an_enclave_lost_in_the_middle_is_replaced_without_a_missing_picture(site: Site) -> None:
    """The relay cuts its first three sessions after the challenge and a part of a picture."""
    with start_websocket_relay(site.address, cuts=[2000, 10, 2000]) as peer:
        site.add("flaky", f"ws://127.0.0.1:{peer.port}")
        ran = site.owner.ok("diagnose", "--remote", "flaky", sample("bcc"), "--output", "json")
        assert answers(ran.json()) == ["bcc"]
        assert peer.connections == 4


def test_a_fourth_loss_since_the_last_answer_is_the_end(site: Site) -> None:
    with start_websocket_relay(site.address, cuts=[2000] * 9) as peer:
        site.add("broken", f"ws://127.0.0.1:{peer.port}")
        ran = site.owner.run("diagnose", "--remote", "broken", sample("bcc"), "--output", "json")
        assert ran.status == 5
        assert ran.json()["results"][0]["error"]["code"] == "enclave-lost"
        assert peer.connections == 4


def test_evidence_of_a_remote_is_kept_and_judged_by_its_policy(site: Site) -> None:
    with start_websocket_relay(site.address, judge=needs_token) as peer:
        site.add("lab", f"ws://127.0.0.1:{peer.port}", "--token-file", site.token)
        site.owner.ok("attest", "--remote", "lab", "--out", "e.json")
        site.owner.ok("diagnose", "--remote", "lab", "--evidence", "d.json", sample("bcc"))
        site.owner.refused(2, "attest", "--remote", "lab", "--root", site.root, "--out", "f.json")
        site.owner.refused(2, "attest")
        to = (f"ws://127.0.0.1:{peer.port}", "--root", site.root, "--out", "g.json")
        assert site.owner.refused(2, "attest", *to)["code"] == "token-missing"
        site.owner.ok("attest", *to, "--token-file", site.token, "--policy", site.policy)
    for name in ("e.json", "d.json"):
        kept = json.loads((site.owner.base / name).read_text())
        assert kept["policy"] == site.policy.read_text()
    judge = ("--root", site.root, "--policy", site.policy, "--at", "document")
    site.owner.ok("verify", "e.json", *judge)


def test_other_code_behind_the_gateway_gets_no_picture(site: Site) -> None:
    text = site.policy.read_text()
    digits = text.partition("PCR0: '")[2][:96]
    site.policy.write_text(text.replace(digits, "ab" * 48))
    with start_websocket_relay(site.address) as peer:
        site.add("other", f"ws://127.0.0.1:{peer.port}")
        error = site.owner.refused(4, "diagnose", "--remote", "other", sample("bcc"))
    assert error["code"] == "pcr-mismatch"


def test_a_policy_stays_mandatory(site: Site) -> None:
    error = site.owner.refused(2, "diagnose", "--connect", "wss://gateway.test", sample("bcc"))
    assert "expected --policy as well" in error["message"]
    error = site.owner.refused(2, "remote", "add", "hospital", "wss://gateway.test")
    assert "--policy" in error["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("--remote", "a", "--connect", "wss://gateway.test"),
        ("--remote", "a", "--enclave", "b"),
        ("--remote", "a", "--fresh"),
        ("--remote", "a", "--tls-pin", "sha256:00"),
        ("--tls-pin", "sha256:00"),
    ],
)
def test_contradictions_are_refused(site: Site, words: tuple[str, ...]) -> None:
    site.owner.refused(2, "diagnose", *words, sample("bcc"))


def test_a_captive_portal(site: Site) -> None:
    portal = b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\nContent-Length: 0\r\n\r\n"
    with start_web_server(portal) as peer:
        site.add("hotel", f"ws://127.0.0.1:{peer.port}")
        error = site.owner.refused(3, "diagnose", "--remote", "hotel", sample("bcc"))
    assert (error["kind"], error["code"]) == ("network", "web-page")


def test_an_invitation_from_one_side_to_the_other(site: Site) -> None:
    with start_websocket_relay(site.address, judge=needs_token) as peer:
        address = f"ws://127.0.0.1:{peer.port}"
        written = site.owner.base / "to.txt"
        invited = site.operator.ok(
            *("remote", "invite", address, "--policy", site.policy, "--root", site.root),
            *("--token-file", site.token, "--write", written, "--output", "json"),
        ).json()
        assert written.stat().st_mode & 0o777 == 0o600
        policy = site.policy.read_bytes()
        over = ("remote", "invite", address, "--policy", site.policy, "--root", site.root, "--write")
        assert site.operator.refused(2, *over, site.policy)["code"] == "foreign-file"
        assert site.policy.read_bytes() == policy
        pcr0 = invited["releases"][0]["pcr0"]
        add = ("remote", "add", "hospital", "--from", written)
        assert site.owner.refused(2, *add)["code"] == "needs-pcr0"
        assert site.owner.refused(4, *add, "--expect-pcr0", "00" * 48)["code"] == "invitation-pcr0"
        assert site.owner.ok("remote", "list", "--output", "json").json()["remotes"] == []
        error = site.owner.refused(4, *add, "--expect-pcr0", pcr0)
        assert error["code"] == "invitation-terms", "whoever changed the mail may have signed for this PCR0"
        other_root = site.authority.file
        error = site.owner.refused(4, *add, "--expect-pcr0", pcr0, "--root", other_root)
        assert error["code"] == "invitation-root"
        site.owner.ok(*add, "--expect-pcr0", pcr0, "--root", site.root, "--default")
        assert answers(site.owner.ok("diagnose", sample("bcc"), "--output", "json").json()) == ["bcc"]
    assert site.owner.refused(6, *add)["code"] == "remote-exists", "said before anybody types PCRs"
    written.write_text(written.read_text().replace("A", "B", 1).swapcase())
    other = ("remote", "add", "other", "--from", written, "--expect-pcr0", pcr0)
    assert site.owner.refused(2, *other)["code"] == "invitation"


def test_a_new_invitation_after_a_rollout(site: Site) -> None:
    """A release that was compared is not asked for again, unless the terms got weaker."""
    owner, mail = site.owner, site.owner.base / "mail.txt"
    site.add("hospital", "wss://old.test", "--token-file", site.token)
    old = site.policy.read_text()
    release = old.partition("releases:\n")[2]
    digits = release.partition("PCR0: '")[2][:96]
    site.policy.write_text(old + release.replace(digits, "ab" * 48).replace("name: ", "name: next-"))
    invite = ("remote", "invite", "wss://new.test", "--policy", site.policy, "--root", site.root)
    mail.write_text(site.operator.ok(*invite).out)
    update = ("remote", "update", "hospital", "--from", mail)
    assert owner.refused(2, *update)["code"] == "needs-pcr0"
    assert owner.refused(4, *update, "--expect-pcr0", "cd" * 48)["code"] == "invitation-pcr0"
    assert owner.refused(2, *update, "--policy", site.policy)["kind"] == "usage"
    shown = owner.ok("remote", "show", "hospital", "--output", "json").json()
    assert (shown["address"], len(shown["releases"])) == ("wss://old.test/v1", 1)
    value = owner.ok(*update, "--expect-pcr0", "ab" * 48, "--output", "json").json()
    assert (value["address"], len(value["releases"])) == ("wss://new.test/v1", 2)
    assert value["has_token"], "what the invitation does not have stays"
    site.policy.write_text(old.replace("accept: [simulated]", "accept: [nitro, simulated]"))
    mail.write_text(site.operator.ok(*invite).out)
    error = owner.refused(4, *update, "--expect-pcr0", "ab" * 48)
    assert error["code"] == "invitation-pcr0", "the old release counts under weaker terms only if compared"


@pytest.mark.parametrize(
    ("typed", "status"),
    [("{pcr0}\ny\n", 0), ("{pcr0}\nn\n", 2), ("{other}\ny\n", 4), ("\x04", 130)],
    ids=["right", "no", "other", "end"],
)
def test_at_a_terminal_the_reader_types_the_builders_pcr0(site: Site, typed: str, status: int) -> None:
    """The command shows the invitation, but does not offer its own value as the answer."""
    text = site.operator.ok(
        *("remote", "invite", "wss://gateway.test", "--policy", site.policy, "--root", site.root)
    ).out
    (site.owner.base / "mail.txt").write_text(f"Dear Ann,\n\n{text}\nRegards\n")
    pcr0 = site.policy.read_text().partition("PCR0: '")[2][:96]
    shown = on_terminal(
        [*site.owner.program, "remote", "add", "hospital", "--from", "mail.txt"],
        environ=site.owner.environment(),
        cwd=site.owner.base,
        stdout=True,
        stdin=typed.format(pcr0=pcr0, other="ab" * 48).encode(),
    )
    assert shown.status == status, shown.raw
    assert "from its builder" in shown.raw
    assert ("WARNING: its evidence is simulated" in shown.raw) is (status in {0, 2})
    added = site.owner.ok("remote", "list", "--output", "json").json()["remotes"]
    assert [one["name"] for one in added] == (["hospital"] if status == 0 else [])
