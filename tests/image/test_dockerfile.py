"""What the text of a Dockerfile gives away before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.image.dockerfile import lint_dockerfile
from enclavectl.image.findings import LintFinding, Rule


def found(folder: Path, text: str) -> list[LintFinding]:
    (folder / "Dockerfile").write_text(text)
    return list(lint_dockerfile(folder / "Dockerfile"))


# As the tutorial does it.
TUTORIAL = """FROM python:3.11-slim

# generate a key pair
RUN ssh-keygen -t rsa -f enclave_key -m PEM -N "" && openssl rsa -in enclave_key -out private.pem
"""


def test_the_step_that_makes_the_tutorials_key_is_named(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, TUTORIAL)
    assert finding.rule is Rule.PRIVATE_KEY
    assert finding.where == "context: Dockerfile, line 4"
    assert "ssh-keygen -t rsa -f enclave_key" in finding.message


@pytest.mark.parametrize(
    "step",
    [
        "openssl genrsa -out key.pem 2048",
        "openssl req -x509 -newkey rsa:2048 -keyout k.pem -out c.pem -nodes",
        "openssl ecparam -name secp384r1 -genkey -noout -out k.pem",
        "apt-get update && \\\n  # why\n  openssl genpkey \\\n  -algorithm ed25519 -out k.pem",
        "keytool -genkeypair -alias a",
        "gpg --batch --full-generate-key params",
        "wg genkey > key",
    ],
)
def test_steps_that_make_keys(tmp_path: Path, step: str) -> None:
    (finding,) = found(tmp_path, f"FROM scratch\nRUN {step}\n")
    assert (finding.rule, finding.where) == (Rule.PRIVATE_KEY, "context: Dockerfile, line 2")


def test_steps_with_secrets_in_their_words(tmp_path: Path) -> None:
    text = "FROM a\nARG NPM_TOKEN\nENV DB_PASSWORD=hunter2 B=1\nRUN TOKEN=$NPM_TOKEN make\n"
    (finding,) = found(tmp_path, text)
    assert (finding.rule, finding.where) == (Rule.CREDENTIAL, "context: Dockerfile, line 3")
    assert "hunter2" not in str(finding)


@pytest.mark.parametrize(
    "text",
    [
        "# RUN openssl genrsa 2048\nFROM a\nRUN openssl version && openssl verify x\n",
        "FROM a\nRUN ssh-keygen -y -f key\nRUN apt-get install -y openssh-client openssl\n",
        "FROM a\nCOPY ssh-keygen /bin/\n",
        "",
        "\\",
    ],
)
def test_others_are_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


@pytest.mark.timeout(60)
def test_a_large_dockerfile_is_read_in_one_go(tmp_path: Path) -> None:
    """With a search that looks ahead without a bound this takes hours."""
    found(tmp_path, "RUN " + "ssh-keygen openssl ecparam openssl req keytool gpg " * 20_000)
