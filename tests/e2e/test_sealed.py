"""Sealed models on one machine: what the operator's commands say when something is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.e2e.cli import Cli, wait_until


def seal(cli: Cli, name: str = "m") -> Path:
    cli.ok("model", "seal", "demo-lesion", "--to", f"{name}.sealed")
    return cli.base / f"{name}.sealed"


def weights_in_list(cli: Cli) -> dict[str, str | None]:
    """How far the one enclave is, as ``list`` says it."""
    (one,) = cli.ok("list", "--output", "json").json()["enclaves"]
    found = one["weights"]
    assert isinstance(found, dict)
    return found


def test_a_sealed_model_is_shown_without_its_key(cli: Cli) -> None:
    path = seal(cli)
    assert (cli.base / "m.key").stat().st_mode & 0o777 == 0o600
    (cli.base / "m.key").unlink()
    shown = cli.ok("model", "show", "m.sealed", "--output", "json").json()
    assert shown["model"]["id"] == "demo-lesion"
    data = path.read_bytes()
    for cut, code in ((data[:-1], "truncated"), (data + b"x", "trailing"), (b"x" + data, "magic")):
        path.write_bytes(cut)
        assert cli.refused(2, "model", "show", "m.sealed")["code"] == code


def test_an_old_key_is_never_overwritten(cli: Cli) -> None:
    seal(cli)
    before = (cli.base / "m.key").read_bytes()
    assert "key" in cli.refused(2, "model", "seal", "demo-lesion", "--to", "m.sealed")["message"]
    assert (cli.base / "m.key").read_bytes() == before
    # Nor a sealed file whose key is elsewhere.
    sealed = (cli.base / "m.sealed").read_bytes()
    (cli.base / "m.key").rename(cli.base / "kept.key")
    assert "m.sealed" in cli.refused(2, "model", "seal", "demo-lesion", "--to", "m.sealed")["message"]
    assert (cli.base / "m.sealed").read_bytes() == sealed
    assert not (cli.base / "m.key").exists()


def test_wrong_keys_start_nothing_and_leave_nothing(cli: Cli) -> None:
    seal(cli)
    seal(cli, "other")
    run = ("run", "--model", "m.sealed", "--release")
    assert cli.refused(2, *run, "file:other.key")["code"] == "other-file"
    forged = json.loads((cli.base / "m.key").read_text()) | {"key": "00" * 32}
    (cli.base / "forged.key").write_text(json.dumps(forged))
    (cli.base / "forged.key").chmod(0o600)
    assert cli.refused(5, *run, "file:forged.key")["code"] == "wrong-key"
    (cli.base / "forged.key").chmod(0o644)
    assert cli.refused(3, *run, "file:forged.key")["code"] == "key-mode"
    assert cli.refused(2, *run, "kms")["kind"] == "usage"
    assert cli.refused(2, "run", "--release", "kms")["kind"] == "usage"
    cli.assert_nothing_left()


def test_a_damaged_chunk_ends_the_enclave_and_its_last_words_say_so(cli: Cli) -> None:
    path = seal(cli)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    error = cli.refused(5, "run", "--model", "m.sealed", "--release", "file:m.key")
    assert "cannot be opened: chunk-13" in error["message"]
    cli.assert_nothing_left()


def test_the_enclave_serves_nobody_before_it_has_its_key_and_ends_with_its_lease(cli: Cli) -> None:
    seal(cli)
    trial = ("run", "--name", "trial", "--model", "m.sealed", "--release", "file:m.key")
    cli.ok(*trial)
    cli.ok("describe", "trial", "--policy-file", "p.yaml")
    cli.ok("terminate", "trial")
    waiting = cli.start("run", "--name", "late", "--model", "m.sealed")
    try:
        wait_until(lambda: any(path.name == "release.sock" for path in cli.sockets()), "the port is there")
        (port,) = [path for path in cli.sockets() if path.name == "release.sock"]
        wait_until(lambda: weights_in_list(cli)["state"] == "MEASURED", "it is measured")
        assert weights_in_list(cli)["waiting_for"] == "its key, from the model's owner or KMS"
        assert "MEASURED, waits for its key" in cli.ok("list").out
        found = cli.run("describe", "late", "--output", "json").json()
        assert found["attested"]["error"]["code"] == "state"
        assert found["weights"] == weights_in_list(cli)
        to = ("model", "release", "m.key", "--policy", "p.yaml", "--root", cli.root, "--to", f"unix:{port}")
        cli.ok(*to, "--lease", "15s", "--log", "log")
        out, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, err
        assert "model pinned" in out
        assert weights_in_list(cli) == {"state": "SERVING", "waiting_for": None}
        wait_until(lambda: not cli.processes(), "the lease is over")
        assert "the lease is over" in cli.ok("console", "late").out
    finally:
        if waiting.poll() is None:
            waiting.kill()
            waiting.communicate()
    shutil.rmtree(cli.base / "data", ignore_errors=True)
