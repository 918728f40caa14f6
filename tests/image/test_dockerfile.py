"""What the text of a Dockerfile gives away before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.image.dockerfile import parse_dockerfile, read_dockerfile
from enclavectl.image.dockerfile_lint import lint_dockerfile
from enclavectl.image.findings import LintFinding, Rule


def found(folder: Path, text: str) -> list[LintFinding]:
    (folder / "Dockerfile").write_text(text)
    return list(lint_dockerfile(read_dockerfile(folder / "Dockerfile")))


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


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN <<EOF\nssh-keygen -t rsa -f key\nEOF\n",
        "FROM a\nRUN sh <<-'KEYS'\n\topenssl genrsa \\\n\t4096\n\tKEYS\n",
    ],
)
def test_a_heredoc_that_makes_a_key_is_named(tmp_path: Path, text: str) -> None:
    (finding,) = found(tmp_path, text)
    assert (finding.rule, finding.where) == (Rule.PRIVATE_KEY, "context: Dockerfile, line 2")


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ('FROM a\nCMD ["python3", "x"]\n', Rule.RELATIVE_COMMAND, 2),
        ('FROM a\nENTRYPOINT ["/a"]\nCMD ["/b"]\n', Rule.ENTRYPOINT_AND_CMD, 3),
        ("FROM a\nCMD ['/a']\nENTRYPOINT [\"a\"]\n", Rule.RELATIVE_COMMAND, 3),
        ('FROM a AS b\nCMD ["./a"]\nFROM B\nRUN x\n', Rule.RELATIVE_COMMAND, 2),
        ('FROM a\nCMD ["/tmp/app"]\n', Rule.COMMAND, 2),
        ('FROM a\nENTRYPOINT ["/dev/shm/app"]\n', Rule.COMMAND, 2),
    ],
)
def test_a_command_that_cannot_start_is_known_from_the_text(
    tmp_path: Path, text: str, rule: Rule, line: int
) -> None:
    (finding,) = found(tmp_path, text)
    assert (finding.rule, finding.where) == (rule, f"context: Dockerfile, line {line}")


@pytest.mark.parametrize(
    "text",
    [
        'FROM a\nCMD ["x"]\nFROM b\nCMD ["/x"]\n',
        "FROM a\nCMD exec /x\n",
        'FROM a\nCMD ["x"]\nENTRYPOINT ["/x"]\n',
        'FROM a\nONBUILD CMD ["x"]\n',
        'FROM a\nCMD ["/runner"]\n',
        "FROM a\n",
    ],
)
def test_a_command_that_may_start_is_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


def test_a_dockerfile_is_read_as_buildkit_reads_it() -> None:
    text = (
        "\ufeff# escape=`\r\n# syntax=a/b\r\n\r\nfrom a\r\n\r\nRUN one `\r\n# a comment\r\n\r\n  two ``\r\n"
        'ONBUILD COPY --chmod=1 --link <<A <<"B" /c\r\nfirst\r\nA\r\n\\n$x\r\nB\r\nCMD ["x"]'
    )
    read = parse_dockerfile(text)
    assert read.directives == {"escape": "`", "syntax": "a/b"}
    assert [(one.line, one.name, one.flags, one.text) for one in read.instructions] == [
        (4, "FROM", (), "a"),
        (6, "RUN", (), "one   two ``"),
        (10, "COPY", ("--chmod=1", "--link"), '<<A <<"B" /c'),
        (15, "CMD", (), '["x"]'),
    ]
    copy = read.instructions[2]
    assert copy.is_deferred
    assert copy.heredocs == ("first", "\\n$x")


@given(st.text(alphabet="RUNCOPYADFM <>\\\n\"'EO-=#`[$\r\t", max_size=200))
def test_any_text_is_some_dockerfile(text: str) -> None:
    lines = len(text.split("\n"))
    assert all(1 <= one.line <= lines for one in parse_dockerfile(text).instructions)
