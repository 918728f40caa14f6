"""Two calls of AWS KMS, made by hand: Encrypt on the owner's machine, Decrypt for an enclave on the parent.

Not botocore: its wheel has 17 MB and its client takes 0.7 s to make, for one POST whose signature is ten
lines of HMAC (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
What it would bring is its chain of credentials. Here there are the environment and the instance's role, which
is what a parent has; ``aws configure export-credentials --format env`` brings others into the environment.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from enclavectl.errors import AttestationError, EnclavectlError, HostError, NetworkError, UsageError
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.net.address import bracketed, is_loopback
from enclavectl.weights.credentials import Credentials, find_credentials

# botocore's model of KMS, 2014-11-01: CiphertextBlob and CiphertextForRecipient have 1 to 6,144 bytes.
MAX_BLOB_BYTES = 6144
_MAX_ANSWER_BYTES = 64 * 1024
# KMS answers in some 20 ms; DependencyTimeoutException comes after its own 5 s.
_TIMEOUT_S = 15.0
_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):kms:(?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9]):[0-9]{12}:"
    r"(?P<kind>key|alias)/[A-Za-z0-9/_-]{1,256}"
)
_ENDPOINT = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII,
)
_MAX_PORT = 65_535
_CONTENT_TYPE = "application/x-amz-json-1.1"
_SIGNED = ("content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target")
_CREDENTIALS_CODES = {
    "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
    "InvalidSignatureException", "MissingAuthenticationTokenException", "IncompleteSignature",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A key by its full ARN, in its region."""

    arn: str
    region: str
    partition: str

    @property
    def endpoint(self) -> str:
        """The region's service."""
        suffix = ".cn" if self.partition == "aws-cn" else ""
        return f"https://kms.{self.region}.amazonaws.com{suffix}"


def parse_key_arn(text: str) -> KmsKey:
    """Read the full ARN of a key.

    Raises:
        UsageError: it is none, or an alias, which can be moved to another key.
    """
    match = _ARN.fullmatch(text)
    if match is None or match["kind"] == "alias":
        what = "an alias, which its account can move to another key" if match else repr(text[:100])
        raise UsageError(
            f"KMS key: expected a full ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), found {what}",
            hint="aws kms describe-key --key-id ... --query KeyMetadata.Arn prints it",
            code="kms-key",
        )
    return KmsKey(arn=text, region=match["region"], partition=match["partition"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Kms:
    """KMS for one key. ``endpoint`` is the region's own, or what AWS_ENDPOINT_URL_KMS names."""

    key: KmsKey
    credentials: Credentials
    endpoint: str

    def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key under the key, bound to the context; return the blob.

        Raises:
            EnclavectlError: as ``_call``.
        """
        request = {"KeyId": self.key.arn, "Plaintext": _text(plaintext), "EncryptionContext": dict(context)}
        answer = self._call("Encrypt", request)
        return self._bytes(answer, "CiphertextBlob")

    def decrypt_for(self, document: bytes, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Have the blob decrypted for the enclave of ``document``; return what only that enclave opens.

        Raises:
            EnclavectlError: as ``_call``; also if KMS answers in the clear.
        """
        answer = self._call(
            "Decrypt",
            {
                "KeyId": self.key.arn,
                "CiphertextBlob": _text(blob),
                "EncryptionContext": dict(context),
                "Recipient": {
                    "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
                    "AttestationDocument": _text(document),
                },
            },
        )
        if "Plaintext" in answer and answer.members.get("Plaintext"):
            raise HostError(
                f"{self.endpoint}: expected an answer for the enclave alone, found one in the clear: this is "
                "no KMS that knows recipients",
                hint="unset AWS_ENDPOINT_URL_KMS; moto and localstack cannot stand in for KMS here",
                code="kms-plaintext",
            )
        return self._bytes(answer, "CiphertextForRecipient")

    def _call(self, action: str, request: Mapping[str, object]) -> JsonObject:
        """Make a signed call.

        Raises:
            AttestationError: KMS denies it.
            UsageError: KMS refuses the request or the credentials.
            NetworkError: KMS cannot be reached, or something else answers.
        """
        body = json.dumps(request).encode()
        status, data = post(self.endpoint, action, body, self.credentials, self.key.region)
        try:
            answer = JsonObject.parse(data)
            if status == http.client.OK:
                if answer.string("KeyId") != self.key.arn:
                    raise NetworkError(f"KMS answered for another key than {self.key.arn}", code="kms-key")
                return answer
            kind = answer.string("__type").rpartition("#")[2]
            said = next((str(answer.members[key]) for key in ("message", "Message") if key in answer), "")
        except JsonError as exc:
            raise NetworkError(
                f"{self.endpoint}: expected an answer of KMS, found something else (HTTP {status})",
                hint="does a proxy answer in its place?",
                code="kms-answer",
            ) from exc
        raise _refused(action, kind, said)

    def _bytes(self, answer: JsonObject, name: str) -> bytes:
        try:
            data = base64.b64decode(answer.string(name), validate=True)
        except ValueError as exc:  # JsonError is one; so is what is no base64, or not even ASCII
            raise NetworkError(f"KMS: expected {name} in its answer", code="kms-answer") from exc
        if not 1 <= len(data) <= MAX_BLOB_BYTES:
            raise NetworkError(f"KMS: expected {name} of at most {MAX_BLOB_BYTES} bytes", code="kms-answer")
        return data


def kms_for(arn: str, environ: Mapping[str, str]) -> Kms:
    """Return KMS for a key, with the credentials and the endpoint of the environment.

    Raises:
        UsageError: the ARN cannot be used, or there are no credentials.
    """
    key = parse_key_arn(arn)
    endpoint = environ.get("AWS_ENDPOINT_URL_KMS") or key.endpoint
    return Kms(key=key, credentials=find_credentials(environ), endpoint=endpoint)


def post(endpoint: str, action: str, body: bytes, credentials: Credentials, region: str) -> tuple[int, bytes]:
    """POST a signed call and return the status and the answer's bytes.

    Raises:
        UsageError: the endpoint is no address, or is another machine's without TLS.
        NetworkError: nobody answers, or no CA vouches for who does.
    """
    is_secure, host, port = parse_endpoint(endpoint)
    headers = {
        "content-type": _CONTENT_TYPE,
        "host": bracketed(host) + ("" if port is None else f":{port}"),
        "x-amz-date": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        "x-amz-target": f"TrentService.{action}",
    }
    headers = sign(headers, body, credentials, region)
    kind = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
    connection = kind(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER_BYTES)
    except ssl.SSLCertVerificationError as exc:
        raise NetworkError(
            f"{endpoint}: no CA of this system vouches for its certificate ({exc.verify_message})",
            hint="install ca-certificates, or name a file of CAs in SSL_CERT_FILE; Dockerfile.parent says "
            "where those of pods come from",
            code="kms-certificate",
        ) from exc
    except (OSError, http.client.HTTPException, UnicodeError) as exc:  # UnicodeError: a label of no name
        raise NetworkError(
            f"{endpoint}: KMS cannot be reached ({exc})",
            hint="is there a route or a VPC endpoint for KMS in the key's region?",
            code="kms-unreachable",
        ) from exc
    finally:
        connection.close()


def parse_endpoint(text: str) -> tuple[bool, str, int | None]:
    """Return whether an endpoint has TLS, its host, and its port if it names one.

    Raises:
        UsageError: it has another form, or is another machine's without TLS.
    """
    match = _ENDPOINT.fullmatch(text)
    port = None if match is None or match["port"] is None else int(match["port"])
    if match is None or (port is not None and port > _MAX_PORT):
        raise UsageError(f"AWS_ENDPOINT_URL_KMS: expected https://HOST, found {text!r:.100}")
    host = match["host"].strip("[]")
    if match["scheme"] == "http" and not is_loopback(host):
        raise UsageError("AWS_ENDPOINT_URL_KMS: http:// is for this machine only; use https://")
    return match["scheme"] == "https", host, port


def sign(headers: Mapping[str, str], body: bytes, credentials: Credentials, region: str) -> dict[str, str]:
    """Return the headers with the token and the signature of AWS's version 4, for a POST to ``/``."""
    signed = dict(headers)
    if credentials.token is not None:
        signed["x-amz-security-token"] = credentials.token
    names = [name for name in _SIGNED if name in signed]
    lines = "".join(f"{name}:{signed[name]}\n" for name in names)
    listed = ";".join(names)
    canonical = f"POST\n/\n\n{lines}\n{listed}\n{hashlib.sha256(body).hexdigest()}"
    moment = signed["x-amz-date"]
    scope = f"{moment[:8]}/{region}/kms/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(signing_key(credentials.secret, scope), to_sign.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.key_id}/{scope}, SignedHeaders={listed}, "
        f"Signature={signature}"
    )
    return signed


def signing_key(secret: str, scope: str) -> bytes:
    """Derive the key that signs for one scope: date, region, service and a last word."""
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _refused(action: str, kind: str, said: str) -> EnclavectlError:
    """Make the error of a refused call. Only the type is read: AWS documents no texts."""
    if kind == "AccessDeniedException":
        return AttestationError(
            f"KMS denies {action} ({said or kind}); it does not say which condition failed",
            hint="enclavectl policy kms-explain KEY-POLICY DOCUMENT --principal ARN says which",
            code="kms-access-denied",
        )
    if kind in _CREDENTIALS_CODES:
        return UsageError(
            f"KMS does not take these credentials ({kind}): expired, or not for it",
            hint="renew AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or unset them for "
            "the instance's role",
            code="kms-credentials",
        )
    return UsageError(
        f"KMS refuses {action} ({kind}: {said})",
        hint="InvalidCiphertext: another context or blob; NotFound: another region",
        code="kms-refused",
    )
