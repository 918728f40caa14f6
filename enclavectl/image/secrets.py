"""Private keys and credentials in bytes that are about to become a public measurement.

Everything in an image can be read by whoever has the image file, the operator first of all. Only contents and
well-known names count, so that a file that merely speaks of keys is not taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from enclavectl.image.findings import Rule

# Enough of a key's first lines to know it; keys may stand anywhere, also across two chunks.
_OVERLAP = 4096
# A PEM header, perhaps RFC 1421 headers, and a good part of a line of base64: not a string in a program.
_PEM = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----\s*"
    rb"(?:[A-Za-z-]+: [^\n]*\n\s*){0,4}[A-Za-z0-9+/=\s]{40}"
)
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids and
# https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
_TOKENS = (
    (b"AKIA", re.compile(rb"(?<![A-Z0-9])AKIA[A-Z2-7]{16}(?![A-Z0-9])"), "an AWS access key"),
    (
        b"aws_secret_access_key",
        re.compile(rb"aws_secret_access_key\s*[=:]\s*[A-Za-z0-9/+]{40}"),
        "an AWS secret key",
    ),
    (b"ghp_", re.compile(rb"(?<![A-Za-z0-9_])ghp_[A-Za-z0-9]{36}(?![A-Za-z0-9])"), "a GitHub token"),
    (b"github_pat_", re.compile(rb"github_pat_[A-Za-z0-9_]{82}"), "a GitHub token"),
)
# A DER sequence that begins with a version: PKCS #8 (RFC 5958), PKCS #1 (RFC 8017), SEC 1 (RFC 5915).
_DER_KEY = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02\x01[\x00\x01]", re.DOTALL)
_MAX_DER_KEY = 16 << 10
# TLS libraries carry the keys of their self-tests (GnuTLS does), so a key inside of a program is not counted.
_ELF = b"\x7fELF"
# Amazon's own examples, which documentation and SDKs repeat.
_EXAMPLES = (b"AKIAIOSFODNN7EXAMPLE", b"AKIAI44QH8DHBEXAMPLE")
_KEY_NAMES = re.compile(rb"(?:^|/)(?:id_(?:rsa|dsa|ecdsa|ed25519)|ssh_host_[a-z0-9]+_key)$")
_CREDENTIAL_NAMES = re.compile(
    rb"(?:^|/)(?:\.aws/credentials|\.netrc|\.pypirc|\.git-credentials|\.docker/config\.json|\.kube/config)$"
)
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|SECRET_ACCESS_KEY)$",
    re.IGNORECASE,
)


def secrets_in(name: bytes, chunks: Iterable[bytes]) -> Iterator[tuple[Rule, str]]:
    """What a file holds that must stay private: each rule and what was seen, once."""
    seen: set[tuple[Rule, str]] = set()
    if _KEY_NAMES.search(name):
        seen.add((Rule.PRIVATE_KEY, "the name of an SSH private key"))
    if _CREDENTIAL_NAMES.search(name):
        seen.add((Rule.CREDENTIAL, "a file that holds credentials"))
    rest, is_program = b"", None
    for chunk in chunks:
        if is_program is None:
            is_program = chunk.startswith(_ELF)
            if _is_der_key(chunk):
                seen.add((Rule.PRIVATE_KEY, "a private key"))
        window = rest + chunk
        seen.update(one for one in _in_window(window) if not (is_program and one[0] is Rule.PRIVATE_KEY))
        rest = window[-_OVERLAP:]
    yield from sorted(seen)


def _is_der_key(data: bytes) -> bool:
    """Whether a file that begins like this is a binary private key and nothing else."""
    if not _DER_KEY.match(data) or len(data) > _MAX_DER_KEY:
        return False
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        load_der_private_key(data, password=None)
    except UnsupportedAlgorithm:
        return True  # a key, only of a kind that this library does not know
    except (ValueError, TypeError):
        return False
    return True


def _in_window(window: bytes) -> Iterator[tuple[Rule, str]]:
    # bytes.find is a tenth of the cost of a search, and most files have none of these words.
    if window.find(b"PRIVATE KEY") >= 0 and _PEM.search(window):
        yield Rule.PRIVATE_KEY, "a private key"
    for word, pattern, what in _TOKENS:
        if window.find(word) >= 0 and any(match[0] not in _EXAMPLES for match in pattern.finditer(window)):
            yield Rule.CREDENTIAL, what


def secret_variables(env: Iterable[str]) -> Iterator[str]:
    """The names of environment variables that are called like a secret and have a value."""
    for line in env:
        name, _, value = line.partition("=")
        if value and _SECRET_VARIABLE.search(name):
            yield name
