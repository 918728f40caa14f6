"""``enclavectl page``: what it writes, and what it refuses to write."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclavectl.attestation import Policy, Trust, render_policy
from enclavectl.backends.local.pki import DevelopmentRoot
from tests.browser.lane import built_page
from tests.cli.command import Done, enclavectl
from tests.forge import RELEASE, accepting

ADDRESS = "wss://gateway.example:8443/v1"
LARGEST = 150_000  # bytes


@pytest.fixture(scope="module", autouse=True)
def code() -> None:
    built_page()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    der = DevelopmentRoot.create(datetime.now(UTC)).certificate_der
    (tmp_path / "root.pem").write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
    keep(tmp_path, accepting(RELEASE))
    return tmp_path


def keep(folder: Path, policy: Policy) -> None:
    (folder / "policy.yaml").write_text(render_policy(policy))


def write(folder: Path, *words: str, remote: str = ADDRESS) -> Done:
    named: Sequence[str] = [
        *("--policy", str(folder / "policy.yaml"), "--root", str(folder / "root.pem")),
        *("--remote", remote, "--to", str(folder / "p.html")),
    ]
    return enclavectl("page", *named, *words, home=folder)


def test_a_page_is_written_over_and_another_file_is_not(folder: Path) -> None:
    assert write(folder).status == 0
    assert write(folder).status == 0
    (folder / "p.html").write_text("<!doctype html><title>mine</title>")
    done = write(folder, "--output", "json")
    assert (done.status, done.error()["code"]) == (2, "foreign-file")
    assert (folder / "p.html").read_text().endswith("mine</title>")


def test_the_page_is_one_small_file_and_its_hash_is_told(folder: Path) -> None:
    value = json.loads(write(folder, "--output", "json").out)
    data = (folder / "p.html").read_bytes()
    assert value["sha256"] == sha256(data).hexdigest()
    assert value["bytes"] == len(data) <= LARGEST
    assert value["gzip_bytes"] < len(data) / 2
    assert (folder / "p.html").stat().st_mode & 0o777 == 0o644
    text = data.decode()
    # Its own address, the icon and the namespaces of standards are names; nothing is loaded from anywhere.
    assert (
        re.findall(r'(?:src|href)="(?!data:)[^"]+"', text.partition('<script type="application/json"')[0])
        == []
    )
    write(folder)
    assert (folder / "p.html").read_bytes() == data, "the same inputs give the same page"


def test_the_content_security_policy_names_the_code_and_the_gateway_alone(folder: Path) -> None:
    write(folder)
    text = (folder / "p.html").read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    rules = dict(rule.split(" ", 1) for rule in policy.replace("&#x27;", "'").split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["connect-src"] == ADDRESS
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        (code,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert rules[kind] == f"'sha256-{base64.b64encode(sha256(code.encode()).digest()).decode()}'"


def test_no_text_of_a_publisher_becomes_code(folder: Path) -> None:
    contact = "<img src=x onerror=alert(3)>"
    (folder / "notice.txt").write_text("</script><script>alert(1)</script>\nSecond line")
    evil = '"><script>alert(2)</script>'
    policy = replace(accepting(replace(RELEASE, name="</script><b>")), clock_skew=timedelta(seconds=9))
    keep(folder, policy)
    ran = write(folder, "--title", evil, "--contact", contact, "--notice", str(folder / "notice.txt"))
    assert ran.status == 0, ran.err
    text = (folder / "p.html").read_text()
    assert text.count("<script>") == 1
    assert text.count("</script>") == 2
    (config,) = re.findall(r'<script type="application/json" id="config">(.*?)</script>', text, re.DOTALL)
    found = json.loads(config)
    assert (found["title"], found["contact"], found["policy"]["clock_skew_s"]) == (evil, contact, 9)
    assert "<img" not in text
    assert found["policy"]["releases"][0]["name"] == "</script><b>"
    assert found["root"]["name"] == "root.pem", "without its folder"


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("tls:gateway.example:8443", "browsers speak nothing else"),
        ("wss://[2001:db8::1]/v1", "IPv4"),
        ("ws://gateway.example/v1", "TLS"),
    ],
)
def test_an_address_that_a_page_cannot_reach_is_refused(folder: Path, remote: str, words: str) -> None:
    ran = write(folder, remote=remote)
    assert ran.status == 2
    assert words in ran.err
    assert not (folder / "p.html").exists()


def test_a_page_that_no_enclave_could_satisfy_is_refused(folder: Path) -> None:
    over = replace(RELEASE, expires=datetime(2026, 1, 1, tzinfo=UTC))
    keep(folder, accepting(over))
    assert "all are over" in write(folder).err
    keep(folder, replace(accepting(RELEASE), accept=frozenset({Trust.NITRO})))
    ran = write(folder)
    assert (ran.status, "accepts nitro" in ran.err) == (2, True)
    assert "local/root/certificate.pem" in ran.err


def test_unsigned_documents_are_none_for_a_page(folder: Path) -> None:
    keep(folder, replace(accepting(RELEASE), accept=frozenset({Trust.EMULATED})))
    ran = write(folder)
    assert (ran.status, "found that it accepts emulated" in ran.err) == (2, True)
    assert "certificate.pem" not in ran.err, "no root makes such a policy one for a page"


@pytest.mark.parametrize("option", ["--title", "--contact"])
def test_a_line_of_text_is_one_line(folder: Path, option: str) -> None:
    for wrong, found in (("two\nlines", "U+000A"), ("x" * 101, "101"), ("z.\u00a0B.", "U+00A0")):
        ran = write(folder, option, wrong)
        assert (ran.status, f"{option}: expected at most 100 printable characters" in ran.err) == (2, True)
        assert found in ran.err


def test_a_notice_of_an_editor_on_windows_is_a_notice(folder: Path) -> None:
    (folder / "notice.txt").write_bytes(b"\xef\xbb\xbfOne line.\r\n\r\nAnother.\r\n")
    ran = write(folder, "--notice", str(folder / "notice.txt"))
    assert ran.status == 0, ran.err
    assert "<p>One line.</p><p>Another.</p>" in (folder / "p.html").read_bytes().decode()
    (folder / "notice.txt").write_bytes(b"a\tb")
    assert "found the character U+0009" in write(folder, "--notice", str(folder / "notice.txt")).err


def test_a_page_goes_to_a_file_in_a_folder_that_exists(folder: Path) -> None:
    words = ("--policy", str(folder / "policy.yaml"), "--root", str(folder / "root.pem"), "--remote", ADDRESS)
    for wrong, expected in (
        (folder, "expected a file, found a folder"),
        (folder / "gone" / "p.html", "expected a file in a folder that exists"),
    ):
        ran = enclavectl("page", *words, "--to", str(wrong), home=folder)
        assert (ran.status, expected in ran.err) == (2, True)


def test_an_input_is_never_written_over(folder: Path) -> None:
    words = ("--policy", str(folder / "policy.yaml"), "--root", str(folder / "root.pem"))
    ran = enclavectl("page", *words, "--remote", ADDRESS, "--to", str(folder / "policy.yaml"), home=folder)
    assert ran.status == 2
    assert "policy.yaml" in ran.err
