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


@contextmanager
def control_plane(programs: Path, folder: Path) -> Iterator[Api]:
    """Run a control plane; the API server ends before etcd, else it hangs for a minute."""
    folder.mkdir()
    etcd_port, peer_port, port = free_ports(3)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    subprocess.run(
        ["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"], check=True, capture_output=True
    )
    url = f"https://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [str(programs / name), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env={"PATH": os.environ["PATH"], "HOME": str(folder)},
                )
            )

    try:
        etcd = f"http://127.0.0.1:{etcd_port}"
        start(
            "etcd",
            *("--data-dir", str(folder / "etcd"), "--listen-client-urls", etcd),
            *("--advertise-client-urls", etcd, "--listen-peer-urls", f"http://127.0.0.1:{peer_port}"),
            *("--unsafe-no-fsync", "--log-level", "error"),
        )
        start(
            "kube-apiserver",
            *("--etcd-servers", etcd, "--cert-dir", str(folder / "certs"), "--secure-port", str(port)),
            *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"),
            *("--token-auth-file", str(folder / "tokens.csv"), "--authorization-mode", "RBAC"),
            *("--service-account-key-file", str(folder / "sa.key")),
            *("--service-account-signing-key-file", str(folder / "sa.key")),
            *("--service-account-issuer", "https://test", "--service-cluster-ip-range", "10.0.0.0/24"),
            *("--endpoint-reconciler-type", "none"),
        )
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        api = Api(url, token, context)

        def is_ready() -> bool:
            for process in started:
                assert process.poll() is None, (folder / "kube-apiserver.log").read_text()[-2000:]
            try:
                return bool(api.get("/readyz") == "ok")
            except (OSError, Refused):
                return False

        wait_until(is_ready, "the API server is ready")
        config = folder / "kubeconfig"
        config.write_text(json.dumps(kubeconfig(url, token)))
        common = ("--kubeconfig", str(config), "--leader-elect=false", "--secure-port", "0")
        start("kube-scheduler", *common)
        start(
            "kube-controller-manager",
            *(
                *common,
                "--controllers",
                CONTROLLERS,
                "--service-account-private-key-file",
                str(folder / "sa.key"),
            ),
            *("--use-service-account-credentials=false", "--horizontal-pod-autoscaler-sync-period", "1s"),
        )
        yield api
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def kubeconfig(url: str, token: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    }
