"""Which evidence is enough: what the options, the configuration and a host for production allow together."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from enclavectl.config.load import Config, load_config
from enclavectl.errors import EnclavectlError, UsageError
from enclavectl.targets.target import target_elsewhere
from enclavectl.targets.verification import check_policy, verification_options

POLICY = """schema: enclavectl.policy/2
accept: [nitro]
releases:
  - name: one
    pcrs:
      PCR0: {register}
      PCR1: {register}
      PCR2: {register}
""".format(register="ab" * 48)


def config(tmp_path: Path, **flags: object) -> Config:
    return load_config(path=None, environ={"HOME": str(tmp_path)}, flags=flags)


def test_the_flag_goes_before_the_configured_policy(tmp_path: Path) -> None:
    configured = config(tmp_path, policy=tmp_path / "configured.yaml")
    assert verification_options(configured, allow_debug=False).policy == tmp_path / "configured.yaml"
    flag = tmp_path / "flag.yaml"
    assert verification_options(configured, policy=flag, allow_debug=False).policy == flag


def test_production_refuses_debug_mode_by_flag_and_by_policy(tmp_path: Path) -> None:
    production = config(tmp_path, profile="production")
    with pytest.raises(UsageError, match="production") as by_flag:
        verification_options(production, allow_debug=True)
    assert by_flag.value.code == "production"
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"unsafe_allow_debug: true\n{POLICY}")
    with pytest.raises(EnclavectlError, match="unsafe_allow_debug"):
        check_policy(verification_options(production, policy=policy, allow_debug=False))
    policy.write_text(POLICY)
    check_policy(verification_options(production, policy=policy, allow_debug=False))


def test_a_root_needs_an_enclave_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--root: expected --connect as well"):
        verification_options(config(tmp_path), allow_debug=False, root=tmp_path / "root.pem")


def test_an_enclave_elsewhere_needs_a_policy(tmp_path: Path) -> None:
    options = verification_options(config(tmp_path), allow_debug=False, connect="vsock:16:5000")
    with pytest.raises(UsageError, match=r"^--connect: expected --policy as well"):
        target_elsewhere("vsock:16:5000", options)


def test_an_enclave_elsewhere_is_held_to_the_root_of_aws(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    options = verification_options(
        config(tmp_path), policy=policy, allow_debug=False, connect="vsock:16:5000"
    )
    target = target_elsewhere("vsock:16:5000", options)
    assert (target.backend, str(target.address), target.running) == ("remote", "vsock:16:5000", None)
    assert str(target.expectation.root.trust) == "nitro"


def test_a_root_of_aws_in_a_file_is_still_nitro(tmp_path: Path) -> None:
    policy, root = tmp_path / "policy.yaml", tmp_path / "downloaded.pem"
    policy.write_text(POLICY)
    root.write_bytes((files("enclavectl.attestation") / "roots" / "aws-nitro-g1.pem").read_bytes())
    options = verification_options(
        config(tmp_path), policy=policy, allow_debug=False, connect="vsock:16:5000", root=root
    )
    found = target_elsewhere("vsock:16:5000", options).expectation.root
    assert (str(found.trust), found.name) == ("nitro", "aws")


def test_a_policy_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("releases: []\n")
    with pytest.raises(UsageError, match=r"policy\.yaml"):
        check_policy(verification_options(config(tmp_path), policy=policy, allow_debug=False))
