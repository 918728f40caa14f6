"""Patterns of private keys, credentials and the files that hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from enclavectl.image.findings import Rule

# A PEM header, optional RFC 1421 headers, and most of a line of base64, so that a string in a program does
# not match. In JSON and in variables an end of line is two characters, as in the keys of Google's service
# accounts.
_PEM = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\r|\\n)*"
    rb"(?:[A-Za-z-]+: [^\n]*\n\s*){0,4}[A-Za-z0-9+/=\s]{40}"
)
_AWS_SECRET = re.compile(
    rb"(?i:secret_?access_?key)[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
)
_GITHUB = re.compile(rb"(?<![A-Za-z0-9_])gh[opsur]_[A-Za-z0-9]{36}(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class Token:
    """A kind of secret. Each one contains ``word``, which is cheap to find; ``pattern`` decides."""

    word: bytes
    pattern: re.Pattern[bytes]
    what: str
    rule: Rule = Rule.CREDENTIAL

    def is_in(self, data: bytes) -> bool:
        """Return whether the data has such a secret; examples from documentation do not count."""
        # bytes.find costs a tenth of a regex search, and most files have none of these words.
        return data.find(self.word) >= 0 and any(
            not any(one in match[0] for one in _EXAMPLES) for match in self.pattern.finditer(data)
        )


# Amazon's own examples, which documentation and SDKs repeat.
_EXAMPLES = (b"AKIAIOSFODNN7EXAMPLE", b"AKIAI44QH8DHBEXAMPLE", b"ASIAIOSFODNN7EXAMPLE", b"EXAMPLEKEY")
# In all files. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html and
# https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
TOKENS = (
    Token(b"PRIVATE KEY", _PEM, "a private key", Rule.PRIVATE_KEY),
    Token(b"AKIA", re.compile(rb"(?<![A-Z0-9])AKIA[A-Z2-7]{16}(?![A-Z0-9])"), "an AWS access key"),
    Token(b"ghp_", _GITHUB, "a GitHub token"),
    Token(b"github_pat_", re.compile(rb"github_pat_[A-Za-z0-9_]{82}"), "a GitHub token"),
    Token(b"hf_", re.compile(rb"(?<![A-Za-z0-9_])hf_[A-Za-z]{34}(?![A-Za-z0-9])"), "a Hugging Face token"),
)
# In text files only, since each word adds as much scanning time.
TEXT_TOKENS = (
    # base64 of "-----BEGIN", as in Kubernetes secrets, and of how private keys go on.
    Token(
        b"LS0tLS1CRUdJTi",
        re.compile(
            rb"LS0tLS1CRUdJTiB(?:QUklWQVRFIEtFWS|SU0EgUFJJVkFURSBLRVkt|FQyBQUklWQVRFIEtFWS|"
            rb"PUEVOU1NIIFBSSVZBVEUgS0VZ|FTkNSWVBURUQgUFJJVkFURSBLRVkt)"
        ),
        "a private key in base64",
        Rule.PRIVATE_KEY,
    ),
    Token(b"PuTTY-User-Key", re.compile(rb"PuTTY-User-Key-File-[23]: "), "a PuTTY key", Rule.PRIVATE_KEY),
    Token(b"AGE-SECRET", re.compile(rb"AGE-SECRET-KEY-1[A-Z0-9]{58}"), "an age key", Rule.PRIVATE_KEY),
    Token(b"ASIA", re.compile(rb"(?<![A-Z0-9])ASIA[A-Z2-7]{16}(?![A-Z0-9])"), "an AWS access key"),
    *(
        Token(word, _AWS_SECRET, "an AWS secret key")
        for word in (b"ecret_access_key", b"ecretAccessKey", b"SECRET_ACCESS_KEY")
    ),
    *(Token(word, _GITHUB, "a GitHub token") for word in (b"gho_", b"ghs_", b"ghu_", b"ghr_")),
    Token(b"glpat-", re.compile(rb"(?<![A-Za-z0-9_-])glpat-[A-Za-z0-9_-]{20}"), "a GitLab token"),
    Token(b"xox", re.compile(rb"(?<![A-Za-z0-9])xox[abprs]-[0-9]{8,}-[A-Za-z0-9-]{10}"), "a Slack token"),
    Token(b"pypi-AgE", re.compile(rb"pypi-AgE[A-Za-z0-9_-]{50}"), "a PyPI token"),
    Token(b"npm_", re.compile(rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"), "an npm token"),
    Token(b"_authToken", re.compile(rb":_authToken\s*=\s*[A-Za-z0-9_-]{20}"), "an npm token"),
    Token(b"dckr_pat_", re.compile(rb"dckr_pat_[A-Za-z0-9_-]{27}"), "a Docker token"),
    Token(b'"auths"', re.compile(rb'"auth"\s*:\s*"[A-Za-z0-9+/]{8,}={0,2}"'), "a Docker login"),
    Token(b"sk_live_", re.compile(rb"(?<![A-Za-z0-9_])sk_live_[A-Za-z0-9]{24}"), "a Stripe key"),
    Token(b"T3BlbkFJ", re.compile(rb"sk-[A-Za-z0-9_-]{16,}T3BlbkFJ[A-Za-z0-9_-]{16}"), "an OpenAI key"),
    Token(b"sk-ant-", re.compile(rb"sk-ant-[a-z]{3,5}[0-9]{2}-[A-Za-z0-9_-]{40}"), "an Anthropic key"),
)
# A DER sequence that begins with a version: PKCS #8 (RFC 5958), PKCS #1 (RFC 8017), SEC 1 (RFC 5915).
DER_KEY = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02\x01[\x00\x01]", re.DOTALL)
KEY_STORE = re.compile(rb"\x30(?:\x80|\x82..|\x83...)\x02\x01\x03\x30", re.DOTALL)  # PKCS #12 (RFC 7292)
KEY_NAMES = re.compile(rb"(?:^|/)(?:id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|ssh_host_[a-z0-9]+_key)$")
CREDENTIAL_NAMES = re.compile(
    rb"(?:^|/)(?:\.aws/credentials|[._]netrc|\.pypirc|\.git-credentials|\.docker/config\.json|\.dockercfg|"
    rb"\.kube/config|\.pgpass|\.vault-token|\.boto|\.s3cfg|\.kaggle/kaggle\.json|\.config/gh/hosts\.yml|"
    rb"(?:\.cache/|\.)huggingface/(?:token|stored_tokens)|\.azure/(?:accessTokens\.json|msal_token_cache\.[a-z]+)|"
    rb"gcloud/(?:credentials\.db|access_tokens\.db|application_default_credentials\.json))$"
)
# Files with the addresses of package indexes and repositories, into which some people put passwords.
URL_NAMES = re.compile(
    rb"(?:^|/)(?:pip\.conf|\.?gitconfig|\.git/config|uv\.toml|\.condarc|requirements[^/]*\.txt)$"
)
URL_LOGIN = re.compile(rb"[a-z]://[^\s/:@\"'$]{1,128}:[^\s/@\"'$]{4,}@")
ENV_NAMES = re.compile(rb"(?:^|/)(?:\.env(?:\.[A-Za-z0-9_-]+)?|[^/]+\.env)$")
_NAMED_SO = (
    r"(?:[A-Za-z0-9_]*_)?"
    r"(?:PASSWORD|PASSWD|PASSPHRASE|PASS|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|SECRET_KEY)"
)
SECRET_VARIABLE = re.compile(_NAMED_SO, re.IGNORECASE)
# NAME=value in build arguments and commands; a value that refers to another variable is no secret.
ASSIGNED = re.compile(rf"(?<![A-Za-z0-9_])({_NAMED_SO})=[\"']?[^\s$\"'&|;<>]{{4,}}", re.IGNORECASE)
