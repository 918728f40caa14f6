"""A stand-in for prometheus-adapter: the API of custom metrics, registered with a control plane.

Its Service is of type ExternalName, which leads the API server to a port of this machine: no node is needed.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.cluster.control_plane_process import Api, Object

GROUP, VERSION = "custom.metrics.k8s.io", "v1beta2"
_BASE = f"/apis/{GROUP}/{VERSION}"


class MetricsServer(ThreadingHTTPServer):
    """Says ``value`` for each pod of a namespace; ``asked`` has the metrics that were asked for."""

    daemon_threads = True

    def __init__(self, api: Api, value: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api
        self.value = value
        self.asked: set[str] = set()

    def answer(self, path: str) -> Object | None:
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if path == _BASE:
            resource = {"name": "pods/any", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]}
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{GROUP}/{VERSION}",
                "resources": [{**resource, "singularName": ""}],
            }
        match parts:
            case ["apis", _, _, "namespaces", namespace, "pods", "*", metric]:
                self.asked.add(metric)
                return self._values(namespace, metric)
        return None

    def _values(self, namespace: str, metric: str) -> Object:
        items = [
            {
                "describedObject": {
                    "kind": "Pod",
                    "apiVersion": "/v1",
                    "namespace": namespace,
                    "name": pod["metadata"]["name"],
                },
                "metric": {"name": metric},
                "timestamp": pod["metadata"]["creationTimestamp"],
                "value": str(self.value),
            }
            for pod in self.api.pods(namespace)
        ]
        return {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer

    def do_GET(self) -> None:
        value = self.server.answer(self.path)
        body = json.dumps(value or {"kind": "Status", "apiVersion": "v1", "status": "Failure"}).encode()
        self.send_response(404 if value is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the test says what was asked."""


@contextmanager
def metrics(api: Api, namespace: str, folder: Path, *, value: int) -> Iterator[MetricsServer]:
    """The API, registered for as long as this lasts."""
    server = MetricsServer(api, value)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = folder / "metrics.pem", folder / "metrics.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    meta = {"name": "metrics", "namespace": namespace}
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
    )
    registered = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{VERSION}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {**meta, "port": port},
        },
    }
    api.apply(registered)
    try:
        yield server
    finally:
        api.call("DELETE", f"/apis/apiregistration.k8s.io/v1/apiservices/{VERSION}.{GROUP}")
        server.shutdown()
        server.server_close()
