import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.nitro.differences import ON_THE_FAKE_ONLY

TESTS = Path(__file__).parent
# What `make quick` leaves out: whole commands with their processes, hosts and enclaves, pip, fuzzing, whole
# collections of documents, and services whose deadlines pass in real time. A single slow test of another file
# is marked where it stands.
SLOW = (
    "attestation/test_archived.py",
    "attestation/test_second_opinion.py",
    "backends/test_console_log.py",
    "backends/test_local_sandbox.py",
    "backends/qemu/test_bad_days.py",
    "backends/qemu/test_keeper.py",
    "backends/qemu/test_vsock.py",
    "browser/test_bad_input.py",
    "browser/test_firefox.py",
    "browser/test_network.py",
    "browser/test_page.py",
    "browser/test_vectors.py",
    "browser/test_verifier.py",
    "cli/test_build.py",
    "cli/test_completion.py",
    "cli/test_eif",
    "cli/test_files.py",
    "cli/test_fleet.py",
    "cluster/",
    "cli/test_json_inputs.py",
    "cli/test_key_policy.py",
    "cli/test_policy",
    "cli/test_status_line.py",
    "cli/test_receipts.py",
    "cli/test_verify.py",
    "cli/test_wrong_words.py",
    "client/test_batch.py",
    "client/test_pool.py",
    "deploy/test_systemd_live.py",
    "e2e/",
    "eif/ramdisk/test_stream.py",
    "evidence/test_real_documents.py",
    "gateway/test_announced.py",
    "gateway/test_blindness.py",
    "gateway/test_bounds.py",
    "gateway/test_command.py",
    "gateway/test_diagnose.py",
    "gateway/test_fleet.py",
    "gateway/test_hostile.py",
    "gateway/test_nginx.py",
    "gateway/test_relay.py",
    "host/test_setup_command.py",
    "host/test_setup_live.py",
    "hostile/",
    "image/test_assemble.py",
    "image/test_engine.py",
    "image/test_warmup.py",
    "image/test_wheels.py",
    "kms/test_mutations.py",
    "models/test_demo_model.py",
    "models/test_probe.py",
    "net/test_network.py",
    "nitro/",
    "payload/test_decoder.py",
    "payload/test_lane.py",
    "payload/test_picture_damage.py",
    "payload/test_server_limits.py",
    "results/test_results_file.py",
    "results/test_rows.py",
    "schemas/test_commands.py",
    "selftest/",
    "test_docs.py",
    "test_fuzz.py",
    "tools/",
    "weights/test_kms_release.py",
    "weights/test_owner_command.py",
)

# No deadline: what a shared machine does in between is not what these tests are about.
settings.register_profile("local", deadline=None)
# Where a failure should mean the change and not the dice; `fuzz/` is for the dice.
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
_PROFILE = "ci" if os.environ.get("CI") else "local"
settings.load_profile(_PROFILE)
# `make quick` draws a tenth of the examples; `make test` draws them all.
settings.register_profile("quick", settings.get_profile(_PROFILE), max_examples=10)

# `nohup make test` ignores the first and a script's `make test &` the second; every program that a test
# starts and hangs up or interrupts would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a test by its parameter, not by long bytes: packed ones hold the time, which differs by worker."""
    return argname if isinstance(val, bytes) and len(val) > 8 else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, by file; leave out what the real nitro-cli cannot be."""
    impossible = [item for item in items if is_on_the_fake_only(item)]
    if impossible:
        config.hook.pytest_deselected(items=impossible)
        items[:] = [item for item in items if item not in impossible]
    for item in items:
        if item.path.is_relative_to(TESTS) and str(item.path.relative_to(TESTS)).startswith(SLOW):
            item.add_marker(pytest.mark.slow)


def is_on_the_fake_only(item: pytest.Item) -> bool:
    """Whether this is a test of the fake's with the parameter of the real nitro-cli."""
    name = getattr(item, "originalname", None)
    return name in ON_THE_FAKE_ONLY and item.get_closest_marker("nitro_cli") is not None
