"""Command lines that are nearly right: the error says what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.cli.foreign_words import _MEANT, _MEANT_OPTIONS, meant_by
from tests.cli.command import enclavectl
from tests.cli.tree import NAMES, all_rows
from tests.e2e.cli import sample

READS_FILES = "enclavectl reads files: fetch it first, or pipe it to: enclavectl diagnose -"
KEY_FROM = "enclavectl model seal writes one beside the sealed model"
KEY_BESIDE = "name m.key, which enclavectl model seal wrote beside it"


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("ps", "enclavectl list"),
        ("stop", "enclavectl terminate NAME"),
        ("rm", "enclavectl terminate NAME"),
        ("start", "enclavectl run"),
        ("status", "enclavectl list, or: enclavectl describe NAME"),
        ("sign", "enclavectl eif sign FILE, or: enclavectl build --sign KEY"),
        ("help", "enclavectl --help"),
        ("describe-enclaves", "enclavectl list, or: enclavectl describe NAME"),
        ("build-enclave", "enclavectl build"),
        ("run-enclave", "enclavectl run"),
        ("terminate-enclave", "enclavectl terminate NAME"),
        ("PS", "enclavectl list"),
        ("dignose", "enclavectl diagnose"),
        ("Doctor", "enclavectl doctor"),
    ],
)
def test_a_foreign_or_mistyped_command_is_answered_with_ours(word: str, answer: str) -> None:
    assert meant_by(word, (), NAMES) == f"; did you mean: {answer}?"


def test_a_word_that_is_near_nothing_is_answered_with_nothing() -> None:
    assert meant_by("xyzzy", (), NAMES) == ""
    assert meant_by("x" * 1_000_000, (), NAMES) == ""


def test_each_answer_is_a_command_that_exists_and_each_word_one_that_does_not() -> None:
    known = {" ".join(words) for words, _ in all_rows()} | set(NAMES)
    for group, words in _MEANT.items():
        for word, lines in words.items():
            assert " ".join([*group, word]) not in known
            for line in lines:
                path = [*group, *(one for one in line.split() if not one.isupper() and one[0] != "-")]
                assert not path or " ".join(path) in known, f"{word}: {line}"


def test_the_error_has_the_answer_and_where_to_look(tmp_path: Path) -> None:
    done = enclavectl("eif", "sing", "--output", "json", home=tmp_path)
    assert done.status == 2
    error = done.error()
    assert error["code"] == "no-such-command"
    assert error["message"] == "there is no command 'eif sing'; did you mean: enclavectl eif sign?"
    assert error["hint"] == "enclavectl eif --help lists the commands"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["run", "--cpu-count", "2"], "write --cpus COUNT"),
        (["run", "--eif-path=x.eif"], "write the image as an argument: enclavectl run FILE.eif"),
        (["run", "--detach"], "write nothing: the enclave stays by itself"),
        (["build", "--docker-uri", "x"], "write --image IMAGE"),
        (["build", "--docker-dir", "x"], "write --dockerfile FOLDER"),
        (["build", "--output-file", "x.eif"], "write --to FILE.eif"),
        (["build", "-t", "x"], "write --to FILE.eif"),
        (["eif", "sign", "--private-key", "k"], "write --key FILE"),
        (["terminate", "-a"], "write --all"),
        (["console", "--enclave-id", "x"], "write the enclave's name or id as an argument"),
        (["describe", "--enclave-name", "x"], "write the enclave's name or id as an argument"),
        (["list", "--json"], "write --output json"),
        (["-V"], "write --version"),
        (["run", "--memory", "2G"], "write MiB without a unit, such as --memory 2048"),
        (["plan", "--memory", "1.5GiB"], "write MiB without a unit, such as --memory 1536"),
        (["diagnose", "--timeout", "1m", "x.png"], "write seconds without a unit, such as --timeout 60"),
        (["run", "--memory", "9" * 400 + "G"], "enclavectl run --help lists the options"),
        (["diagnose", "--timeout", "9" * 400 + "m", "x.png"], "enclavectl diagnose --help lists the options"),
        (["diagnose", "-o", "answers.json", "x.png"], "write --output json > answers.json"),
        (["send", "s3://bucket/x.png"], READS_FILES),
        (["diagnose", "*.nosuch"], "the shell found no file that matches this pattern"),
        (["list", "skin"], "enclavectl describe NAME shows one enclave"),
        (["describe"], "enclavectl list shows the names"),
        (["console"], "enclavectl list shows the names"),
        (["logs"], "enclavectl history shows the names"),
        (["attest"], "enclavectl list shows the names"),
        (["list", "-a"], "write nothing: all are listed"),
        (["history", "skin"], "enclavectl logs NAME shows one enclave that has ended"),
        (["logs", "-f", "skin"], "write enclavectl console --follow NAME, for one that runs"),
        (["lock", "show", "my.json"], "name a lock by its option: enclavectl lock show --lock FILE"),
        (["model", "release", "m.sealed", "--policy", "p", "--to", "unix:x"], KEY_BESIDE),
        (["model", "release", "absent.key", "--policy", "p", "--to", "unix:x"], KEY_FROM),
    ],
)  # fmt: skip
def test_an_option_or_value_of_another_tool_is_answered_with_ours(
    tmp_path: Path, arguments: list[str], hint: str
) -> None:
    done = enclavectl(*arguments, home=tmp_path)
    assert done.status == 2
    assert done.err.count("\n") == 2, done.err
    assert f"  try: {hint}\n" in done.err
    assert "Possible options" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--output", "jsn"], "--output: expected one of text, json, found 'jsn'"),
        (["run", "--cpus", "two"], "--cpus: expected a whole number, found 'two'"),
        (["run", "--memory", "2G"], "--memory: expected a whole number, found '2G'"),
        (["listen", "--count", "0"], "--count: expected a whole number of at least 1, found 0"),
        (["run", "--boot-wait", "-1"], "--boot-wait: expected a whole number from 0 to 3600, found -1"),
        (["listen", "--timeout", "0"], "--timeout: expected a number of at least 0.1, found 0.0"),
        (["run", "--drain", "soon"], "--drain: expected a number of at least 0, found 'soon'"),
        (
            ["run", "--boot-wait", "9 is not"],
            "--boot-wait: expected a whole number from 0 to 3600, found '9 is not'",
        ),
        (["diagnose", "--timeout", "1e3", "a"], "--timeout: expected a whole number, found '1e3'"),
        (["list", "skin", "two"], "expected no further argument, found skin two"),
        (["eif", "diff", "a.eif"], "expected NEW, found none"),
        (["page", "--to", "p.html"], "expected --policy, found none"),
        (["diagnose"], "expected PICTURE..., found none"),
    ],
)
def test_a_wrong_value_is_answered_with_what_was_expected(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = enclavectl(*arguments, home=tmp_path)
    assert done.status == 2
    assert done.err.startswith(f"enclavectl: {message}\n")


def test_each_foreign_option_is_one_that_its_command_lacks_and_ours_one_that_it_has(tmp_path: Path) -> None:
    for command, options in _MEANT_OPTIONS.items():
        page = enclavectl(*command, "--help", home=tmp_path).out
        for option, meant in options.items():
            assert f" {option} " not in page, option
            ours = meant.split()[0]
            assert not ours.startswith("--") or f" {ours} " in page, meant


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["diagnose", "--tpo", "1"], "enclavectl diagnose --help lists the options"),
        (["eif", "sign", "x.eif"], "enclavectl eif sign --help lists the options"),
        (["eif", "sign", "--to"], "enclavectl eif sign --help lists the options"),
        (["verify", "e.json", "--root"], "enclavectl verify --help lists the options"),
        (["--verison"], "enclavectl --help lists the options"),
        (["diagnose", "-dash.png"], "for a file of that name, write ./-dash.png"),
        (["eif", "show", "-x.eif"], "for a file of that name, write ./-x.eif"),
    ],
)
def test_the_hint_names_the_command_or_the_file(tmp_path: Path, arguments: list[str], hint: str) -> None:
    done = enclavectl(*arguments, home=tmp_path)
    assert done.status == 2
    assert f"  try: {hint}\n" in done.err


def test_a_file_without_a_suffix_that_exists_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "-picture").write_bytes(b"")
    assert "write ./-picture" in enclavectl("diagnose", "-picture", home=tmp_path).err


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["diagnose", sample("nv"), "--top", "99"], "--top"),
        (["diagnose", sample("nv"), "--timeout", "0"], "--timeout"),
        (["plan", "--memory", "1"], "--memory"),
        (["plan", "--cpus", "0"], "--cpus"),
        (["run", "--backend", "nitro", "--cid", "1"], "--cid"),
        (["run", "--backend", "local", "--memory", "1"], "--memory"),
    ],
)
def test_a_value_out_of_bounds_is_called_by_its_flag(
    tmp_path: Path, arguments: list[object], flag: str
) -> None:
    done = enclavectl(*arguments, home=tmp_path)
    assert done.status == 2
    assert done.err.startswith(f"enclavectl: {flag}: expected ")


@pytest.mark.parametrize("seconds", ["nan", "inf"])
@pytest.mark.parametrize(
    "words",
    [("gateway", "--wait"), ("listen", "--timeout"), ("run", "--foreground", "--drain")],
    ids=lambda words: words[0],
)
def test_a_time_that_is_no_number_of_seconds_is_refused(
    tmp_path: Path, words: tuple[str, ...], seconds: str
) -> None:
    done = enclavectl(*words, seconds, home=tmp_path)
    assert (done.status, f"{seconds} is no number of seconds" in done.err) == (2, True), done.err


def test_a_key_in_place_of_the_sealed_model_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "m.key").write_text('{"schema": "enclavectl.model-key/1"}')
    done = enclavectl("run", "--model", "./m.key", home=tmp_path)
    assert done.status == 2
    assert "this is the key, which stays with the model's owner" in done.err


def test_a_host_that_is_not_there_is_said_with_the_way_out(tmp_path: Path) -> None:
    done = enclavectl("setup", "--dry-run", "--host-root", "al2023", home=tmp_path)
    assert done.status == 2
    assert "found none\n  try: leave --host-root out" in done.err


def test_a_lock_in_place_of_a_policy_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "app.lock.json").write_text('{"schema": "enclavectl.lock/1"}')
    done = enclavectl("policy", "check", "app.lock.json", home=tmp_path)
    assert done.status == 2
    assert "try: this is a lock: name it with --lock" in done.err


@pytest.mark.parametrize(("arguments", "found"), [([], "neither"), (["skin", "--all"], "both")])
def test_terminate_says_which_of_its_two_forms_it_found(
    tmp_path: Path, arguments: list[str], found: str
) -> None:
    done = enclavectl("terminate", *arguments, home=tmp_path)
    assert done.status == 2
    assert f"expected a name or --all, found {found}" in done.err


PIN = ("--tls-pin", "sha256:" + "ab" * 32)
KMS = ("policy", "kms", "--policy", "p.yaml", "--admin", "arn:aws:iam::123456789012:role/Owner")
PARENT = ("--parent", "arn:aws:iam::210987654321:role/Parent")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("attest", "first", "--remote", "lab"), "expected one of TARGET and --remote, found both"),
        (("attest", "first", *PIN), "--tls-pin: expected an address as well: it is for what is elsewhere"),
        (
            ("attest", "--remote", "lab", *PIN),
            "--tls-pin: expected an address in place of --remote: it is for what is elsewhere",
        ),
        (
            ("run", *PIN),
            "--tls-pin: expected --release tls:HOST:PORT as well: it is for what is elsewhere",
        ),
        (("verify", "e.json", "--force"), "--force: expected --report FILE as well"),
        (("diagnose", sample("nv"), "--force"), "--force: expected --report FILE as well"),
        ((*KMS, "--context", "a=b"), "expected --parent, found none"),
        ((*KMS, *PARENT), "expected --context, found none"),
    ],
)
def test_a_message_names_what_the_command_has(
    tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    done = enclavectl(*words, home=tmp_path)
    assert (done.status, done.err.splitlines()[0]) == (2, f"enclavectl: {message}")
