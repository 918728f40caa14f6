"""Held to the verdicts of Docker's own matcher, in tests/vectors/dockerignore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enclavectl.errors import UsageError
from enclavectl.image.context import folder_context
from enclavectl.image.dockerignore import IgnoreRules, Verdict, ignore_lines
from enclavectl.image.ignore_pattern import compile_pattern

TABLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors/dockerignore/table.json").read_text(encoding="utf-8")
)
# Docker takes these and reads them as nobody means them; we refuse them by name.
REFUSED_BY_US = ("[[:^alpha:]].txt", "foo\\bar", "\\D.txt", "\\bfoo", "*|b")


def rules_of(text: str) -> IgnoreRules:
    return IgnoreRules(ignore_lines(text.encode(errors="surrogateescape")))


def left_out(rules: IgnoreRules, path: str) -> bool:
    """The verdict on a path, as a walk comes to it: its folders first."""
    verdict: Verdict | None = None
    parts = path.split("/")
    for number in range(1, len(parts) + 1):
        verdict = rules.judge("/".join(parts[:number]), verdict)
    assert verdict is not None
    return verdict.is_left_out


@pytest.mark.parametrize("row", TABLE["files"], ids=[ascii(row["ignore"]) for row in TABLE["files"]])
def test_a_file_leaves_out_what_docker_leaves_out(row: dict[str, Any]) -> None:
    text, expected = row["ignore"], row["left_out"]
    if expected is None or any(text in (f"{one}\n", f"*\n!{one}\n") for one in REFUSED_BY_US):
        with pytest.raises(UsageError):
            rules_of(text)
        return
    rules = rules_of(text)
    assert [path for path in TABLE["paths"] if left_out(rules, path)] == [
        TABLE["paths"][number] for number in expected
    ]


def test_the_table_is_as_large_as_its_readme_says() -> None:
    assert (len(TABLE["files"]), len(TABLE["paths"])) == (482, 85)


def test_lines_are_as_long_as_docker_takes_them() -> None:
    """Recorded apart from the table: 65535 bytes with a carriage return among them, and no more."""
    assert ignore_lines(b"x" * 65535 + b"\n") == ["x" * 65535]
    assert ignore_lines(b"x" * 65534 + b"\r\n") == ["x" * 65534]
    for line in (b"x" * 65536, b"x" * 65535 + b"\r\n", b"#" + b"x" * 65536 + b"\n"):
        with pytest.raises(UsageError, match="lines of less than 65536 bytes"):
            ignore_lines(line)


def test_a_refusal_names_the_file_the_pattern_and_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / ".dockerignore").write_text("*.md\n!\n")
    with pytest.raises(UsageError, match=r"\.dockerignore: a line with nothing but '!'"):
        list(folder_context(tmp_path))
    with pytest.raises(UsageError, match=r"'\*\|b': .* write \[\|\]"):
        compile_pattern("*|b")
    assert compile_pattern("*[|]b")("a|b")


@pytest.mark.parametrize(
    ("ignore", "sent"),
    [
        ("[^a]*.csv\n", {"a.csv", "LABELS.TXT", "notes.txt", "[a].txt", "#hash"}),
        ("*.txt\n", {"a.csv", "patients.csv", "LABELS.TXT", "#hash"}),
        ("\\#hash\n\\[a\\].txt\n", {"a.csv", "patients.csv", "LABELS.TXT", "notes.txt"}),
    ],
    ids=["negated-class", "upper-case", "escapes"],
)
def test_a_context_has_the_files_that_docker_would_send(tmp_path: Path, ignore: str, sent: set[str]) -> None:
    for name in ("a.csv", "patients.csv", "LABELS.TXT", "notes.txt", "[a].txt", "#hash", "Dockerfile"):
        (tmp_path / name).write_text("x\n")
    (tmp_path / ".dockerignore").write_text(ignore)
    names = {file.name for file in folder_context(tmp_path)}
    assert names - {"Dockerfile", ".dockerignore"} == sent
