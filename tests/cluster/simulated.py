"""A fleet on one machine: nodes are network namespaces with a gateway and local enclaves, behind haproxy."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enclavectl.backends.local.backend import LocalBackend
from enclavectl.client.batch import Losses, classify
from enclavectl.client.exchange import Expectation
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.client.reconnection import Reconnections
from enclavectl.client.session import Client
from enclavectl.errors import EnclavectlError, EnclaveError
from enclavectl.net.address import StreamAddress
from tests.e2e.cli import SAMPLES, Cli
from tests.gateway.process import wait_until

HAPROXY, IP = shutil.which("haproxy"), shutil.which("ip")
PORT = 8443
TIMEOUT_S = 90.0
# A node that is silent is out within a second, and its connections are ended: clients need not find out.
CONFIG = """
global
  maxconn 2000
defaults
  mode tcp
  timeout connect 1s
  timeout client 5m
  timeout server 5m
  retries 3
  option redispatch
frontend clients
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  balance leastconn
  option httpchk GET /readyz
  default-server check inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def has_parts() -> str | None:
    """What is missing for a simulated fleet; None if it is all there."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if HAPROXY is None or IP is None:
        return "haproxy or iproute2 is not installed; .ci/cluster-lane installs them"
    made = subprocess.run([IP, "netns", "add", f"ectl{os.getpid()}x"], capture_output=True, check=False)
    if made.returncode != 0:
        return f"no network namespaces: {made.stderr.decode().strip()}"
    subprocess.run([IP, "netns", "delete", f"ectl{os.getpid()}x"], check=True)
    return None


def _ip(*arguments: str) -> None:
    subprocess.run([str(IP), *arguments], check=True, capture_output=True)


@dataclass(slots=True)
class Node:
    """A namespace with a gateway, and the enclaves that announce themselves to it."""

    number: int
    cli: Cli
    folder: Path
    gateway: subprocess.Popen[bytes] | None = None
    enclaves: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return f"ectl{os.getpid()}n{self.number}"

    @property
    def link(self) -> str:
        return f"ev{os.getpid() % 100000}n{self.number}"

    @property
    def address(self) -> str:
        return f"10.213.{self.number}.2"

    @property
    def announced(self) -> Path:
        return self.folder / "announced"

    def make(self) -> None:
        self.announced.mkdir(parents=True)
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "up0", "netns", self.namespace)
        _ip("addr", "add", f"10.213.{self.number}.1/24", "dev", self.link)
        _ip("link", "set", self.link, "up")
        for words in (
            ("addr", "add", f"{self.address}/24", "dev", "up0"),
            ("link", "set", "up0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", self.namespace, *words)

    def start_gateway(self) -> None:
        variables = {
            "ENCLAVECTL_GATEWAY_DRAIN_ACCEPT_S": "1",
            "ENCLAVECTL_GATEWAY_CONNECTIONS_PER_ADDRESS": "1000",
            "ENCLAVECTL_GATEWAY_CONNECTIONS": "1000",
            "ENCLAVECTL_GATEWAY_REQUESTS_PER_S": "100000",
        }
        inside = (str(IP), "netns", "exec", self.namespace, *self.cli.program)
        arguments = ("--listen", f"{self.address}:{PORT}", "--from", str(self.announced))
        self.gateway = self._start(
            "gateway", (*inside, "gateway", *arguments, "--plain-behind-proxy", "--anonymous"), variables
        )

    def start_enclave(self, name: str) -> None:
        env = {"ENCLAVECTL_GATEWAY_ANNOUNCE": str(self.announced), "ENCLAVECTL_LOCAL_WORKERS": "1"}
        arguments = ("run", "--name", name, "--foreground", "--drain", "60")
        self.enclaves[name] = self._start(name, (*self.cli.program, *arguments), env)

    def _start(self, name: str, argv: Sequence[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                argv,
                env=self.cli.environment(env),
                cwd=self.cli.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def names(self) -> list[str]:
        return [json.loads(path.read_text())["enclave"] for path in self.announced.iterdir()]

    def end_enclave(self, name: str) -> int:
        """Ask for its end and wait: it drains first."""
        process = self.enclaves.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(120)

    def restart_gateway(self) -> int:
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGTERM)
        code = self.gateway.wait(120)
        self.start_gateway()
        return code

    def die(self) -> None:
        """Vanish from the network without a word, and end."""
        _ip("link", "set", self.link, "down")
        for process in (*self.enclaves.values(), *([self.gateway] if self.gateway else [])):
            process.kill()

    def remove(self) -> None:
        for process in (*self.enclaves.values(), *([self.gateway] if self.gateway else [])):
            process.kill()
            process.wait()
        subprocess.run([str(IP), "netns", "delete", self.namespace], check=False, capture_output=True)
        subprocess.run([str(IP), "link", "delete", self.link], check=False, capture_output=True)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes behind a balancer at ``port``."""

    nodes: Sequence[Node]
    port: int
    backend: LocalBackend
    balancer: int

    def relays(self) -> list[int]:
        """The processes of the balancer and of the gateways, which `ip netns exec` becomes."""
        return [self.balancer, *(node.gateway.pid for node in self.nodes if node.gateway is not None)]

    @property
    def address(self) -> StreamAddress:
        return StreamAddress("127.0.0.1", self.port, is_secure=False)

    def expectation(self) -> Expectation:
        """What the enclaves must prove: all are of this machine, and measured before their start."""
        policy = self.backend.policy(self.backend.enclaves(), allow_debug=False)
        return Expectation(policy=policy, root=self.backend.trust_root())


@contextmanager
def fleet(folder: Path, *, nodes: int, enclaves: int) -> Iterator[Fleet]:
    """A fleet that is up: every enclave is announced and every gateway ready."""
    (folder / "home").mkdir(parents=True)
    cli = Cli(folder)
    with ExitStack() as stack:
        made = [Node(number, cli, folder / f"node{number}") for number in range(1, nodes + 1)]
        for node in made:
            stack.callback(node.remove)
            node.make()
            node.start_gateway()
            for number in range(enclaves):
                node.start_enclave(f"n{node.number}e{number}")
        for node in made:
            wait_until(lambda node=node: len(node.names()) == enclaves, "its enclaves are announced")
        port = 18_443
        servers = "\n".join(f"  server n{node.number} {node.address}:{PORT}" for node in made)
        (folder / "haproxy.cfg").write_text(CONFIG.format(port=port, servers=servers))
        balancer = subprocess.Popen(
            [str(HAPROXY), "-db", "-f", str(folder / "haproxy.cfg")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(balancer.wait)
        stack.callback(balancer.terminate)
        for node in made:
            wait_until(lambda node=node: _is_ready(node.address, PORT), "its gateway is ready")
        wait_until(lambda: _is_ready("127.0.0.1", port), "the balancer has gateways")
        yield Fleet(made, port, LocalBackend(folder / "state"), balancer.pid)


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass(slots=True)
class Visitor:
    """A client with pictures to send: what came back, by picture, and from whom."""

    fleet: Fleet
    expectation: Expectation
    pictures: int
    pause_s: float
    replies: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    enclaves: set[str] = field(default_factory=set)
    last_at: float = 0.0
    sessions: int = 0

    def visit(self) -> None:
        left = Reconnections()
        try:
            with ExitStack() as stack:
                client = stack.enter_context(self._connect(left))
                for reply in classify(
                    client,
                    self._pictures(),
                    timeout_s=TIMEOUT_S,
                    in_flight=2,
                    renew=lambda error: self._renew(error, left, stack),
                    losses=Losses(per_picture=8),
                ):
                    self.last_at = time.monotonic()
                    self.replies[reply.index] = self.replies.get(reply.index, 0) + 1
                    if reply.outcome is None:
                        self.wrong.append(str(reply.error))
                    else:
                        left.answered()
        except EnclavectlError as error:
            self.wrong.append(f"{type(error).__name__}: {error}")

    def _pictures(self) -> Iterator[Picture]:
        for _ in range(self.pictures):
            time.sleep(self.pause_s)
            yield PICTURE

    def _connect(self, left: Reconnections) -> Client:
        client = Client.connect(self.fleet.address, self.expectation, timeout_s=TIMEOUT_S, reconnections=left)
        self.sessions += 1
        self.enclaves.add(client.enclave.document.module_id)
        return client

    def _renew(self, error: EnclaveError, left: Reconnections, stack: ExitStack) -> Client | None:
        try:
            return stack.enter_context(self._connect(left))
        except EnclavectlError as exc:
            self.wrong.append(f"after {type(error).__name__}: {exc}")
            return None


PICTURE = read_picture(str(SAMPLES / "bcc.png"), lambda _limit: b"")


@contextmanager
def visitors(made: Fleet, count: int, *, pictures: int, pause_s: float) -> Iterator[list[Visitor]]:
    """Clients at work, each in a thread of its own; leaving waits for all of them."""
    expectation = made.expectation()
    found = [Visitor(made, expectation, pictures, pause_s) for _ in range(count)]
    threads = [threading.Thread(target=one.visit) for one in found]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        for thread in threads:
            thread.join()


def answered(found: Sequence[Visitor]) -> int:
    return sum(len(one.replies) for one in found)


def summary(found: Sequence[Visitor]) -> dict[str, Any]:
    return {
        "answers": answered(found),
        "twice": sum(count > 1 for one in found for count in one.replies.values()),
        "wrong": [text for one in found for text in one.wrong],
        "sessions": sum(one.sessions for one in found),
    }
