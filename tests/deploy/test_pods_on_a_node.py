"""Two containers of the parent's image on one node, as two pods would be: their boots, load and ends.

Real are the engine, the image, the profile of seccomp and the first processes of the containers. nitro-cli is
the fake of the tests: its driver and the one vsock port 9000 are a folder that both containers have.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclavectl.artifacts.lock import read_lock
from enclavectl.attestation import Policy, Release, TrustRoot
from enclavectl.cli.fleet_request import release_of
from enclavectl.client.exchange import Expectation
from enclavectl.deploy.kubernetes.pod import EIF
from enclavectl.deploy.kubernetes.seccomp import seccomp_profile
from enclavectl.deploy.kubernetes.weights_key import SEALED_MODEL, WeightsKey
from enclavectl.gateway.announced import read_announced
from enclavectl.net.address import StreamAddress
from enclavectl.trust import Trust
from tests.cluster.control_plane_process import free_ports, wait_until
from tests.deploy.engine import Container, Engine, mounts
from tests.e2e.cli import Cli
from tests.gateway.visitors import answered, summary, visitors
from tests.net.certificates import Authority
from tests.nitro.host import FakeHost, fake_host, write_image

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
# The fake is a Python program with the payload's libraries; the image has none of these.
LIBRARIES = Path("/usr/lib") / f"{sys.implementation._multiarch}"
CLIENTS, PICTURES = 12, 6


@dataclass(frozen=True, slots=True)
class Node:
    """A node with a fake driver, on which containers of the image run."""

    engine: Engine
    image: str
    host: FakeHost
    profile: Path
    port: int
    stack: ExitStack

    @property
    def announced(self) -> Path:
        """What the volume of a pod is; here both pods share one, as there is no balancer in front."""
        return self.host.home / "announced"

    def _start(self, *words: str | Path, options: tuple[str, ...] = ()) -> Container:
        confined = ("--security-opt", f"seccomp={self.profile}", *mounts([self.host.home], read_only=False))
        made = self.engine.start(*confined, *options, self.image, *words)
        self.stack.callback(made.remove)
        return made

    def start_pod(
        self,
        name: str,
        *arguments: str,
        eif: str | Path = EIF,
        more: Sequence[str] = ("--network", "none"),
    ) -> Container:
        """An enclave's container; its folders of nitro-cli are its own, as in a pod.

        ``arguments`` are further ones of ``run``, ``more`` of the engine.
        """
        base = Path(sys.base_prefix)
        # A system's own Python is in the image.
        shown = [ROOT, Path(sys.prefix), *([base] if base != Path("/usr") else []), LIBRARIES]
        variables = {
            **self.host.environment,
            "PATH": f"{self.host.home / 'bin'}:/usr/local/bin:/usr/bin",
            "NITRO_CLI_SOCKETS_PATH": "/run/nitro_enclaves",
            "NITRO_CLI_LOGS_PATH": "/var/log/nitro_enclaves",
            "ENCLAVECTL_BACKEND": "nitro",
            "ENCLAVECTL_GATEWAY_ANNOUNCE": str(self.announced),
        }
        options = [
            *mounts(list(dict.fromkeys(shown)), read_only=True),
            *("--mount", f"type=bind,source={LIBRARIES},target=/lib/{LIBRARIES.name},readonly"),
            *("--tmpfs", "/run/nitro_enclaves", "--tmpfs", "/var/log/nitro_enclaves", *more),
            *(word for key, value in variables.items() for word in ("--env", f"{key}={value}")),
        ]
        run = ("run", eif, "--foreground", "--name", name, "--memory", "1024", "--cpus", "2")
        return self._start(*run, *arguments, options=tuple(options))

    def start_gateway(self) -> Container:
        arguments = ("gateway", "--from", self.announced, "--listen", f"127.0.0.1:{self.port}")
        options = (
            *("--network", "host", "--env", "ENCLAVECTL_GATEWAY_DRAIN_ACCEPT_S=1"),
            *("--env", "ENCLAVECTL_GATEWAY_CONNECTIONS_PER_ADDRESS=100"),
        )
        return self._start(*arguments, "--plain-behind-proxy", "--anonymous", options=options)

    def launches(self) -> int:
        return sum(argv[:1] == ["run-enclave"] for argv in self.host.argv())

    def announcements(self) -> int:
        return len(list(self.announced.glob("*.json")))

    def expectation(self) -> Expectation:
        """What is proved: this image, by the root that stands for AWS's on this node."""
        pcrs = {int(key[3:]): bytes.fromhex(value) for key, value in read_lock(self.host.lock).pcrs.items()}
        policy = Policy(releases=(Release(name="demo", pcrs=pcrs),), accept=frozenset({Trust.SIMULATED}))
        pem = (self.host.home / "root.pem").read_bytes()
        return Expectation(policy=policy, root=TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name="node"))


@contextmanager
def node(engine: Engine, image: str) -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="nd"))  # short: its sockets have 107 characters
    try:
        # The fake's daemons end with their container, whose processes do not see this one.
        with fake_host(folder / "h", owner_pid=0) as host, ExitStack() as stack:
            (host.home / "announced").mkdir()
            profile = folder / "profile.json"
            profile.write_bytes(seccomp_profile())
            yield Node(engine, image, host, profile, free_ports(1)[0], stack)
    finally:
        shutil.rmtree(folder)


def test_two_pods_boot_at_once_and_end_under_load_without_a_lost_picture(engine: Engine, image: str) -> None:
    with node(engine, image) as made:
        made.host.hold("boot")
        first, second = made.start_pod("one"), made.start_pod("two")
        wait_until(lambda: made.launches() >= 3, "one of both was refused the port, and has tried again")
        made.host.let_go("boot")
        wait_until(lambda: made.announcements() == 2, "both have proved themselves and are announced")
        # The image of the pods has the same enclave image under another name, and its lock beside it.
        label = release_of(read_lock(made.host.lock), made.host.lock)
        assert [one.release for one in read_announced(made.announced)] == [label, label]
        assert ("vsock port 9000 is taken" in first.logs) != ("vsock port 9000 is taken" in second.logs)
        for one in (first, second):
            wait_until(lambda one=one: not one.zombies(), "the first process reaps what nitro-cli left it")
        gateway = made.start_gateway()
        wait_until(lambda: "2 enclaves" in gateway.logs or "answers" in gateway.logs, "the gateway is up")
        address = StreamAddress("127.0.0.1", made.port, is_secure=False)
        with visitors(address, made.expectation(), CLIENTS, pictures=PICTURES, pause_s=0.3) as found:
            wait_until(lambda: answered(found) >= CLIENTS, "the clients are at work")
            assert answered(found) < CLIENTS * PICTURES // 2, "and have most of it before them"
            assert first.stop(within_s=60) == 0
        told = summary(found)
        assert told["wrong"] == []
        assert (told["answers"], told["twice"]) == (CLIENTS * PICTURES, 0)
        assert "has ended" in first.logs
        assert (gateway.stop(within_s=60), second.stop(within_s=60)) == (0, 0)
        assert made.host.enclaves() == []


@contextmanager
def owner_of_weights(folder: Path, host: FakeHost) -> Iterator[tuple[Path, WeightsKey]]:
    """A model's owner who releases it to the host's image: the sealed weights, and where pods get the key."""
    (folder / "home").mkdir(parents=True)
    owner = Cli(folder)
    owner.ok("model", "seal", "demo-lesion", "--to", "m.sealed")
    owner.ok("policy", "new", "--from-lock", host.lock, "--model", "m.sealed", "--to", "policy.yaml")
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text().replace("accept: [nitro]", "accept: [simulated]"))
    pair, source = Authority(folder).issue("127.0.0.1"), f"tls:127.0.0.1:{free_ports(1)[0]}"
    service = owner.start(
        *("model", "release", "m.key", "--policy", policy, "--root", host.home / "root.pem", "--log", "log"),
        *("--listen", source, "--cert", pair.certificate, "--cert-key", pair.key),
    )
    try:
        yield folder / "m.sealed", WeightsKey(source=source, pin=pair.pin)
    finally:
        service.send_signal(signal.SIGINT)
        service.communicate(timeout=60)


def test_a_pod_with_sealed_weights_asks_their_owner_and_serves(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    with node(engine, image) as made:
        made.host.set(sealed=True)
        write_image(made.host.eif, is_sealed=True)
        with owner_of_weights(tmp_path / "o", made.host) as (model, key):
            # Where the image has them; it dials the owner, who is on this machine.
            weights = f"type=bind,source={model},target={SEALED_MODEL},readonly"
            more = ("--mount", weights, "--network", "host")
            pod = made.start_pod("sealed", *key.arguments, eif=made.host.eif, more=more)
            pod.wait_for(lambda: made.announcements() == 1, "it has its weights, and is announced")
        (line,) = (tmp_path / "o" / "log").read_text().splitlines()
        assert json.loads(line)["result"] == "allowed"
        (announced,) = read_announced(made.announced)
        assert announced.release == release_of(read_lock(made.host.lock), made.host.lock, model=model)
        gateway = made.start_gateway()
        gateway.wait_for(lambda: "answers" in gateway.logs, "the gateway is up")
        address = StreamAddress("127.0.0.1", made.port, is_secure=False)
        with visitors(address, made.expectation(), 1, pictures=2, pause_s=0) as found:
            pass
        told = summary(found)
        assert (told["wrong"], told["answers"]) == ([], 2)
        assert (gateway.stop(within_s=60), pod.stop(within_s=60)) == (0, 0)
