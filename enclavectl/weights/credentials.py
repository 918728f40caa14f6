"""AWS credentials: of the environment, or of the instance's role by its metadata service (IMDSv2)."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from enclavectl.errors import UsageError
from enclavectl.json_object import JsonError, JsonObject

_IMDS = "169.254.169.254"
# The service is on the same machine.
_TIMEOUT_S = 2.0
_MAX_BYTES = 16 * 1024
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
# Not /identity-credentials/ec2/...: KMS does not take those (aws-nitro-enclaves-sdk-c, issue 101).
_ROLE = "/latest/meta-data/iam/security-credentials/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key; ``token`` belongs to those of a role.

    Raises:
        UsageError: a part is empty or has another character than visible ASCII. It would not fit into a
            header, and no message may show it.
    """

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the rule above."""
        for name, value in (("key id", self.key_id), ("secret", self.secret), ("session token", self.token)):
            if value is not None and _VISIBLE.fullmatch(value) is None:
                raise UsageError(
                    f"AWS credentials: expected visible ASCII in the {name}, found something else",
                    hint="a line end or a space at the end? Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
                    "AWS_SESSION_TOKEN anew",
                    code="kms-credentials",
                )


def find_credentials(environ: Mapping[str, str], *, metadata: str = _IMDS) -> Credentials:
    """Return the environment's credentials, else the instance's role's.

    Raises:
        UsageError: there are none.
    """
    key_id, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if key_id and secret:
        return Credentials(key_id=key_id, secret=secret, token=environ.get("AWS_SESSION_TOKEN") or None)
    try:
        return _of_instance(metadata)
    except (OSError, http.client.HTTPException, JsonError, UnicodeDecodeError) as exc:
        raise UsageError(
            "expected AWS credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an instance with a "
            f"role; found neither ({exc})",
            hint='eval "$(aws configure export-credentials --format env)", or attach a role to the instance',
            code="kms-credentials",
        ) from exc


def _of_instance(metadata: str) -> Credentials:
    token = _ask(metadata, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    headers = {"X-aws-ec2-metadata-token": token}
    role = _ask(metadata, "GET", _ROLE, headers).split("\n")[0].strip()
    value = JsonObject.parse(_ask(metadata, "GET", _ROLE + role, headers).encode())
    return Credentials(
        key_id=value.string("AccessKeyId"),
        secret=value.string("SecretAccessKey"),
        token=value.string("Token"),
    )


def _ask(host: str, method: str, path: str, headers: Mapping[str, str]) -> str:
    connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        data = answer.read(_MAX_BYTES)
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{path}: HTTP {answer.status}")
        return data.decode()
    finally:
        connection.close()
