"""A fleet on one machine: nodes are network namespaces with a gateway and local enclaves, behind haproxy."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.backends.local.backend import LocalBackend
from enclavectl.client.exchange import Expectation
from enclavectl.gateway.announced import read_announced
from enclavectl.net.address import Address, parse_address
from tests.cluster.control_plane_process import free_ports, wait_until
from tests.e2e.cli import Cli

HAPROXY, IP = shutil.which("haproxy"), shutil.which("ip")
PORT = 8443
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
"""
# What a Service of the manifests is: a port, and the nodes that it leads to.
SERVICE = """
listen service{port}
  bind 127.0.0.1:{port}
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
    # The folder of a model other than the packaged one: the enclaves are of another release then.
    model: Path | None = None
    # Decoders of an enclave.
    workers: int = 1
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

    @property
    def fence(self) -> Sequence[str]:
        """A route for what no interface takes: nothing that is meant for a node leaves this machine."""
        return "unreachable", f"10.213.{self.number}.0/24", "metric", "4096"

    def make(self) -> None:
        self.announced.mkdir(parents=True)
        _ip("route", "replace", *self.fence)
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
        env = {
            "ENCLAVECTL_GATEWAY_ANNOUNCE": str(self.announced),
            "ENCLAVECTL_LOCAL_WORKERS": str(self.workers),
        }
        model = () if self.model is None else ("--model", str(self.model))
        arguments = ("run", "--name", name, "--foreground", "--drain", "60", *model)
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
        return [one.name for one in read_announced(self.announced)]

    @property
    def release(self) -> str:
        """The label of its first enclave's release."""
        return read_announced(self.announced)[0].release

    def end_enclave(self, name: str) -> int:
        """Ask for its end and wait: it drains first."""
        process = self.enclaves.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(120)

    def end_gateway(self) -> int:
        """As ``end_enclave``."""
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGTERM)
        return self.gateway.wait(120)

    def restart_gateway(self) -> int:
        code = self.end_gateway()
        self.start_gateway()
        return code

    def end_as_a_pod(self) -> list[int]:
        """The gateway ends first, then the sidecars."""
        return [self.end_gateway(), *(self.end_enclave(name) for name in list(self.enclaves))]

    def die(self) -> None:
        """Vanish from the network without a word, and end."""
        _ip("-n", self.namespace, "link", "set", "up0", "down")
        for process in (*self.enclaves.values(), *([self.gateway] if self.gateway else [])):
            process.kill()

    def remove(self) -> None:
        for process in (*self.enclaves.values(), *([self.gateway] if self.gateway else [])):
            process.kill()
            process.wait()
        subprocess.run([str(IP), "netns", "delete", self.namespace], check=False, capture_output=True)
        subprocess.run([str(IP), "link", "delete", self.link], check=False, capture_output=True)
        subprocess.run([str(IP), "route", "delete", *self.fence], check=False, capture_output=True)


@dataclass(frozen=True, slots=True)
class Balancer:
    """haproxy, with a port for each of its services."""

    pid: int
    ports: Sequence[int]

    def address(self, service: int = 0, label: str | None = None) -> Address:
        """Where clients of a service connect; with a label they pin that release."""
        place = f"127.0.0.1:{self.ports[service]}"
        return parse_address(f"tcp:{place}" if label is None else f"ws://{place}/v1/{label}")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes behind a balancer of one service."""

    nodes: Sequence[Node]
    balancer: Balancer
    backend: LocalBackend

    def relays(self) -> list[int]:
        """The processes of the balancer and of the gateways, which `ip netns exec` becomes."""
        return [self.balancer.pid, *(node.gateway.pid for node in self.nodes if node.gateway is not None)]

    @property
    def address(self) -> Address:
        return self.balancer.address()

    def expectation(self) -> Expectation:
        """What the enclaves must prove: all are of this machine, and measured before their start."""
        policy = self.backend.policy(self.backend.enclaves(), allow_debug=False)
        return Expectation(policy=policy, root=self.backend.trust_root())


@contextmanager
def on_network(nodes: Sequence[Node]) -> Iterator[None]:
    """Nodes with their networks, on which nothing runs yet."""
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.remove)
            node.make()
        yield


def start(nodes: Sequence[Node], *, enclaves: int) -> None:
    """Start gateways and enclaves, and wait until every enclave is announced and every gateway ready."""
    for node in nodes:
        node.start_gateway()
        for number in range(enclaves):
            node.start_enclave(f"n{node.number}e{number}")
    for node in nodes:
        wait_until(lambda node=node: len(node.names()) == enclaves, "its enclaves are announced")
        wait_until(lambda node=node: _is_ready(node.address, PORT), "its gateway is ready")


@contextmanager
def balanced(folder: Path, *services: Sequence[Node]) -> Iterator[Balancer]:
    """A balancer that leads each service to its nodes, of which one is up already or none is."""
    ports = free_ports(len(services))
    parts = [CONFIG]
    for port, nodes in zip(ports, services, strict=True):
        servers = "\n".join(f"  server n{node.number} {node.address}:{PORT}" for node in nodes)
        parts.append(SERVICE.format(port=port, servers=servers))
    (folder / "haproxy.cfg").write_text("".join(parts))
    process = subprocess.Popen(
        [str(HAPROXY), "-db", "-f", str(folder / "haproxy.cfg")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _is_ready("127.0.0.1", ports[0]), "the balancer has gateways")
        yield Balancer(process.pid, ports)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def fleet(folder: Path, *, nodes: int, enclaves: int, workers: int = 1) -> Iterator[Fleet]:
    """A fleet that is up, behind a balancer that leads to all of it."""
    cli = new_cli(folder)
    made = [Node(number, cli, folder / f"node{number}", workers=workers) for number in range(1, nodes + 1)]
    with on_network(made):
        start(made, enclaves=enclaves)
        with balanced(folder, made) as balancer:
            yield Fleet(made, balancer, LocalBackend(cli.state))


def new_cli(folder: Path) -> Cli:
    """The command with a home of its own in that folder."""
    (folder / "home").mkdir(parents=True)
    return Cli(folder)


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
