"""A control plane of Kubernetes, running: its processes, and its API by HTTPS."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Only a failure waits so long; other work may have the machine meanwhile.
PATIENCE_S = 120.0
CONTROLLERS = (
    "deployment-controller,replicaset-controller,disruption-controller,serviceaccount-controller,"
    "horizontal-pod-autoscaler-controller,daemonset-controller,namespace-controller"
)
Object = dict[str, Any]


class Refused(AssertionError):
    """The cluster did not take an object."""


@dataclass(frozen=True, slots=True)
class Api:
    """The API server at ``url``."""

    url: str
    token: str
    context: ssl.SSLContext = field(repr=False)

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as response:
                text = response.read().decode()
        except urllib.error.HTTPError as exc:
            raise Refused(f"{method} {path}: {exc.code} {_message(exc.read())}") from exc
        return json.loads(text) if text.startswith("{") else text

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def apply(self, value: Mapping[str, Any], *, dry_run: bool = False) -> Any:
        """Apply an object as ``kubectl apply --server-side`` does; unknown fields are refused."""
        path = f"{path_of(value)}?fieldManager=test&force=true&fieldValidation=Strict"
        more = "&dryRun=All" if dry_run else ""
        return self.call("PATCH", path + more, value, "application/apply-patch+yaml")

    def patch_status(self, path: str, status: Mapping[str, Any]) -> Any:
        return self.call(
            "PATCH", f"{path}/status", {"status": status}, "application/strategic-merge-patch+json"
        )

    def pods(self, namespace: str) -> list[Object]:
        found: list[Object] = self.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def path_of(value: Mapping[str, Any]) -> str:
    """The address of an object."""
    version, kind, meta = value["apiVersion"], value["kind"], value["metadata"]
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    plural = {"NetworkPolicy": "networkpolicies"}.get(kind, f"{kind.lower()}s")
    inside = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{base}{inside}/{plural}/{meta['name']}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]


def wait_until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s in vain: {what}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass(frozen=True, slots=True)
class Plane:
    """The programs of a control plane, of which those in ``started`` run."""

    programs: Path
    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.started.append(
                subprocess.Popen(
                    [str(self.programs / name), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
                )
            )

    def start_api(self, token: str) -> Api:
        """Start etcd and the API server, and wait until it is ready."""
        etcd_port, peer_port, port = free_ports(3)
        folder, etcd = self.folder, f"http://127.0.0.1:{etcd_port}"
        (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
        key = str(folder / "sa.key")
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        self.start(
            "etcd",
            *("--data-dir", str(folder / "etcd"), "--listen-client-urls", etcd),
            *("--advertise-client-urls", etcd, "--listen-peer-urls", f"http://127.0.0.1:{peer_port}"),
            *("--unsafe-no-fsync", "--log-level", "error"),
        )
        self.start(
            "kube-apiserver",
            *("--etcd-servers", etcd, "--cert-dir", str(folder / "certs"), "--secure-port", str(port)),
            *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"),
            *("--token-auth-file", str(folder / "tokens.csv"), "--authorization-mode", "RBAC"),
            *("--service-account-key-file", key, "--service-account-signing-key-file", key),
            *("--service-account-issuer", "https://test", "--service-cluster-ip-range", "10.0.0.0/24"),
            *("--endpoint-reconciler-type", "none"),
        )
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        api = Api(f"https://127.0.0.1:{port}", token, context)
        wait_until(lambda: self._is_ready(api), "the API server is ready")
        return api

    def _is_ready(self, api: Api) -> bool:
        for process in self.started:
            assert process.poll() is None, (self.folder / "kube-apiserver.log").read_text()[-2000:]
        try:
            return bool(api.get("/readyz") == "ok")
        except (OSError, Refused):
            return False

    def start_controllers(self, api: Api) -> None:
        """Start the scheduler and the controllers that the tests need."""
        config = self.folder / "kubeconfig"
        config.write_text(json.dumps(kubeconfig(api.url, api.token)))
        common = ("--kubeconfig", str(config), "--leader-elect=false", "--secure-port", "0")
        self.start("kube-scheduler", *common)
        self.start(
            "kube-controller-manager",
            *(*common, "--controllers", CONTROLLERS),
            *("--service-account-private-key-file", str(self.folder / "sa.key")),
            *("--use-service-account-credentials=false", "--horizontal-pod-autoscaler-sync-period", "1s"),
        )

    def stop(self) -> None:
        """End the API server before etcd, else it hangs for a minute."""
        for process in reversed(self.started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)


@contextmanager
def control_plane(programs: Path, folder: Path) -> Iterator[Api]:
    """A control plane that runs for as long as this lasts."""
    folder.mkdir()
    plane = Plane(programs, folder)
    try:
        api = plane.start_api(secrets.token_hex(16))
        plane.start_controllers(api)
        yield api
    finally:
        plane.stop()


def kubeconfig(url: str, token: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    }
