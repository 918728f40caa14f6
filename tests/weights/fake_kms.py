"""A KMS for tests: it evaluates a key policy, verifies documents, and answers in KMS's shape.

moto and localstack do neither: moto 5.2.5 ignores Recipient and answers in the clear; localstack 2026.3.0
takes any bytes for a document.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from enclavectl.attestation import TrustRoot
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import parse_claims
from enclavectl.attestation.verify import examine_archived
from enclavectl.errors import EnclavectlError
from enclavectl.kms.evaluate import Call, Recipient, evaluate
from enclavectl.kms.key_policy import KeyPolicy
from enclavectl.kms.principals import parse_caller
from enclavectl.weights.credentials import Credentials
from enclavectl.weights.kms_call import sign
from tests.payload.kms_answers import kms_answer

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/0b5f9d5e-0000-4000-8000-000000000001"


@dataclass
class FakeKms:
    """The service. ``callers`` maps access key ids to secrets and principals. It records each call."""

    root: TrustRoot
    callers: dict[str, tuple[str, str]]
    policy: KeyPolicy | None = None
    key: str = KEY_ARN
    calls: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[bytes, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    url: str = ""
    forged: bytes | None = None
    # As moto: it ignores the recipient.
    is_blind: bool = False

    def answer(  # noqa: PLR0911 - one for each of KMS's errors
        self, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, object]]:
        """Answer one request as KMS would."""
        request = json.loads(body)
        self.calls.append(request)
        scope = headers["authorization"].partition("Credential=")[2].partition(",")[0]
        key_id, _, region, *_ = scope.split("/")
        if key_id not in self.callers:
            return _error("UnrecognizedClientException")
        secret, principal = self.callers[key_id]
        given = {name.lower(): value for name, value in headers.items()}
        credentials = Credentials(key_id=key_id, secret=secret, token=given.get("x-amz-security-token"))
        names = ("content-type", "host", "x-amz-date", "x-amz-target")
        signed = sign({name: given[name] for name in names}, body, credentials, region)
        if signed["authorization"] != given["authorization"]:
            return _error("InvalidSignatureException")
        if request["KeyId"] != self.key:
            return _error("NotFoundException")
        action = given["x-amz-target"].removeprefix("TrentService.")
        recipient = self._recipient(request)
        if isinstance(recipient, str):
            return _error(recipient)
        public, pcrs = recipient if recipient is not None else (None, None)
        call = Call(
            caller=parse_caller(principal),
            action=action,
            at=datetime.now(UTC),
            key=self.key,
            context=request["EncryptionContext"],
            recipient=None if pcrs is None else Recipient(pcrs=pcrs),
        )
        if self.policy is not None and not evaluate(self.policy, call).allowed:
            return _error("AccessDeniedException", "no resource-based policy allows the action")
        if action == "Encrypt":
            blob = b"blob %d" % len(self.blobs)
            self.blobs[blob] = (base64.b64decode(request["Plaintext"]), request["EncryptionContext"])
            return 200, {"KeyId": self.key, "CiphertextBlob": base64.b64encode(blob).decode()}
        plaintext, context = self.blobs.get(base64.b64decode(request["CiphertextBlob"]), (b"", None))
        if context != request["EncryptionContext"]:
            return _error("InvalidCiphertextException")
        if public is None:
            return 200, {"KeyId": self.key, "Plaintext": base64.b64encode(plaintext).decode()}
        cms = kms_answer(public, self.forged or plaintext)
        return 200, {
            "KeyId": self.key,
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "CiphertextForRecipient": base64.b64encode(cms).decode(),
            "Plaintext": None,
        }

    def _recipient(self, request: dict[str, Any]) -> tuple[RSAPublicKey, Mapping[int, bytes]] | str | None:
        if self.is_blind or "Recipient" not in request:
            return None
        document = base64.b64decode(request["Recipient"]["AttestationDocument"])
        try:
            claims = parse_claims(parse_cose(document).payload)
            examine_archived(document, None, root=self.root)
        except EnclavectlError:
            return "ValidationException"
        public = load_der_public_key(claims.public_key or b"")
        assert isinstance(public, RSAPublicKey)
        return public, claims.pcrs


def _error(kind: str, message: str = "") -> tuple[int, dict[str, object]]:
    return 400, {"__type": kind, "message": message}


@contextmanager
def fake_kms(kms: FakeKms) -> Iterator[FakeKms]:
    """Serve it on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, value = kms.answer({k.lower(): v for k, v in self.headers.items()}, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    kms.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kms
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
