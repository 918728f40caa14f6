"""``enclavectl fleet`` as a user runs it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from enclavectl.artifacts.wheel import Wheel
from enclavectl.deploy.kubernetes.objects import fleet_objects
from enclavectl.weights.sealed_file import seal_model
from tests.cli.command import Done, enclavectl
from tests.deploy.fleets import FLEETS, MIB, image, write_lock
from tests.gateway.fake_enclave import FakeEnclave
from tests.gateway.process import gateway, wait_until
from tests.schemas.validation import check_output
from tests.weights.sealing import WEIGHTS, model_in, sealed_in


def fleet(home: Path, *arguments: str | Path) -> Done:
    done = enclavectl("fleet", *arguments, home=home)
    assert "Traceback" not in done.err
    check_output(done.out)
    return done


def render(home: Path, *arguments: str | Path) -> Done:
    return fleet(home, "render", home / "l.json", "--to", home / "k8s", "--cpus", "2", *arguments)


def test_a_lock_is_rendered_and_checked(tmp_path: Path) -> None:
    write_lock(tmp_path / "l.json")
    value = render(tmp_path, "--image", image(), "--output", "json").json()
    assert value["warnings"] == []
    # The payload takes 600 + 2 x 896 MiB at worst; pages are whole.
    assert value["enclave"] == {"memory_mib": 3072, "cpus": 2, "pages": "hugepages-1Gi"}
    done = fleet(tmp_path, "check", tmp_path / "k8s", "--lock", tmp_path / "l.json", "--no-schemas")
    assert (done.status, "sound  yes" in done.out or "sound\tyes" in done.out) == (0, True), done.out
    other = write_lock(tmp_path / "other.json", code="0a")
    found = fleet(tmp_path, "check", tmp_path / "k8s", "--lock", other, "--no-schemas", "--output", "json")
    assert found.status == 2
    assert found.json()["sound"] is False


def test_one_pod_and_one_slot_are_no_plurals(tmp_path: Path) -> None:
    write_lock(tmp_path / "l.json")
    done = render(tmp_path, "--image", image(), "--replicas", "1", "--slots", "1")
    assert done.status == 0, done.err
    assert f"1 pod of {image()}" in done.out
    assert "1 node of 1 slot holds 1" in done.out


def test_two_releases_are_rendered_side_by_side(tmp_path: Path) -> None:
    write_lock(tmp_path / "l.json")
    old = write_lock(tmp_path / "old.json", code="0a")
    done = render(tmp_path, "--image", image(), "--previous", old, "--previous-image", image("d"))
    assert done.status == 0
    assert len(list((tmp_path / "k8s").glob("deployment-*.yaml"))) == 2
    assert len(list((tmp_path / "k8s").glob("service-????????.yaml"))) == 2
    alone = render(tmp_path, "--image", image(), "--previous", old)
    assert (alone.status, "--previous-image" in alone.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--memory", "2500"), "--memory 3072"),
        (("--memory", "512", "--pages", "2Mi"), "--memory 2392"),
        (("--replicas", "9", "--nodes", "2"), "2 nodes x 4 slots"),
        (("--namespace", "No"), "--namespace"),
        (("--cpus", "3"), "--cpus 4"),
        (("--memory", "0"), "--memory"),
        (("--release", "kms"), "found one with a model"),
        (("--tls-pin", "sha256:ab"), "--release as well"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    write_lock(tmp_path / "l.json")
    done = render(tmp_path, *arguments)
    assert done.status == 2
    assert told in done.err
    assert not (tmp_path / "k8s").exists()


def test_a_register_that_is_none_is_told(tmp_path: Path) -> None:
    write_lock(tmp_path / "l.json", pcrs={"PCR0": "ab", "PCR1": "02" * 48, "PCR2": "03" * 48})
    done = render(tmp_path, "--image", image())
    assert (done.status, "with 96 hex digits each, found PCR0 with 'ab'" in done.err) == (2, True)


OWNER = ("--release", "tls:owner.example:7443", "--tls-pin", "sha256:" + "ab" * 32)


def write_runtime(path: Path) -> Path:
    wheel = Wheel(name="numpy", version="1", file="numpy-1.whl", sha256="c" * 64)
    pcrs = {"PCR0": "01" * 48, "PCR1": "02" * 48, "PCR2": "03" * 48}
    return write_lock(path, model=None, wheels=(wheel,), pcrs=pcrs)


def test_a_runtime_has_the_label_of_its_sealed_model_as_policies_do(tmp_path: Path) -> None:
    lock = write_runtime(tmp_path / "l.json")
    sealed, _ = sealed_in(tmp_path / "m")
    value = render(tmp_path, "--image", image(), "--model", sealed.path, *OWNER, "--output", "json").json()
    made = enclavectl(
        *("policy", "new", "--from-lock", lock, "--model", sealed.path, "--to", tmp_path / "p.yaml"),
        *("--output", "json"),
        home=tmp_path,
    )
    assert made.status == 0, made.err
    shown = enclavectl("policy", "show", tmp_path / "p.yaml", "--output", "json", home=tmp_path).json()
    assert [one["label"] for one in value["releases"]] == [
        one["label"] for one in shown["policy"]["releases"]
    ]
    assert value["enclave"]["memory_mib"] == 3072  # the payload's, as with weights in the image
    check = ("check", tmp_path / "k8s", "--lock", lock, "--no-schemas")
    assert fleet(tmp_path, *check, "--model", sealed.path).status == 0
    unnamed = fleet(tmp_path, *check)
    assert (unnamed.status, "--model FILE.sealed" in unnamed.err) == (2, True)
    plain = write_lock(tmp_path / "plain.json")
    of_none = fleet(tmp_path, "check", tmp_path / "k8s", "--lock", plain, "--model", sealed.path)
    assert (of_none.status, "a runtime as well" in of_none.err) == (2, True)


def test_one_runtime_with_two_sealed_models_is_two_releases(tmp_path: Path) -> None:
    lock = write_runtime(tmp_path / "l.json")
    (tmp_path / "old").mkdir()
    new, _ = sealed_in(tmp_path / "new")
    old, _ = seal_model(
        model_in(tmp_path / "old", WEIGHTS[1:]), tmp_path / "old.sealed", key=bytes(32), release={}
    )
    releases = ("--model", new.path, "--previous", lock, "--previous-image", image("d"))
    done = render(tmp_path, "--image", image(), *releases, "--previous-model", old.path, *OWNER)
    assert done.status == 0, done.err
    assert len(list((tmp_path / "k8s").glob("deployment-*.yaml"))) == 2
    check = ("check", tmp_path / "k8s", "--lock", lock, "--no-schemas")
    assert fleet(tmp_path, *check, "--model", new.path, "--model", old.path).status == 0
    one = fleet(tmp_path, *check, "--model", new.path, "--output", "json")
    assert [found["code"] for found in one.json()["findings"]] == ["release-of-no-lock"]


def test_what_does_not_belong_to_a_runtime_or_is_missing_is_told(tmp_path: Path) -> None:
    write_runtime(tmp_path / "l.json")
    sealed, _ = sealed_in(tmp_path / "m")
    cases = {
        OWNER: "--model FILE.sealed",
        ("--model", sealed.path): "--release",
        ("--model", tmp_path / "l.json", *OWNER): "expected a sealed model",
        ("--model", sealed.path, "--release", "kms"): "was not sealed for KMS",
        ("--model", sealed.path, *OWNER, "--previous-model", sealed.path): "--previous as well",
    }
    for arguments, told in cases.items():
        done = render(tmp_path, "--image", image(), *arguments)
        assert (done.status, told in done.err) == (2, True), done.err
    write_lock(tmp_path / "l.json")
    of_image = render(tmp_path, "--image", image(), "--model", sealed.path, *OWNER)
    assert (of_image.status, "a model of its own" in of_image.err) == (2, True)
    assert not (tmp_path / "k8s").exists()


@pytest.mark.parametrize("word", ["run", "gateway"])
def test_the_command_lines_of_pods_have_no_option_that_their_command_lacks(tmp_path: Path, word: str) -> None:
    lines = [
        one["args"]
        for request in FLEETS.values()
        for name, value in fleet_objects(request).items()
        if name.startswith("deployment-")
        for one in pod_containers(value)
    ]
    known = enclavectl(word, "--help", home=tmp_path).out
    options = {option for line in lines if line[0] == word for option in line if option.startswith("--")}
    assert options
    assert {option for option in options if f"{option} " not in known} == set()


def pod_containers(deployment: Any) -> list[dict[str, Any]]:
    spec = deployment["spec"]["template"]["spec"]
    return [*spec["initContainers"], *spec["containers"]]


def test_a_fleet_in_debug_mode_is_not_sound(tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "l.json", pcrs={f"PCR{index}": "0" * 96 for index in range(3)})
    assert render(tmp_path, "--image", image(), "--unsafe-debug").status == 0
    done = fleet(tmp_path, "check", tmp_path / "k8s", "--lock", lock, "--no-schemas", "--output", "json")
    assert [one["code"] for one in done.json()["findings"]] == ["debug-mode"]


def test_a_tag_is_warned_of_and_a_debug_release_refused(tmp_path: Path) -> None:
    write_lock(tmp_path / "l.json")
    assert "not pinned" in render(tmp_path, "--image", "r/x:1.0").err
    write_lock(tmp_path / "l.json", pcrs={f"PCR{index}": "0" * 96 for index in range(3)})
    done = render(tmp_path, "--image", image())
    assert (done.status, "--unsafe-debug" in done.err) == (2, True)
    unsafe = render(tmp_path, "--image", image(), "--unsafe-debug")
    assert (unsafe.status, "DEBUG MODE" in unsafe.err) == (0, True)
    assert "--debug" in next((tmp_path / "k8s").glob("deployment-*.yaml")).read_text()


@pytest.mark.parametrize("kind", ["al2023", "karpenter"])
def test_a_node_holds_the_enclaves_of_the_fleet(tmp_path: Path, kind: str) -> None:
    write_lock(tmp_path / "l.json")
    done = fleet(tmp_path, "node", tmp_path / "l.json", "--cpus", "2", "--for", kind, "--to", tmp_path / "n")
    assert done.status == 0
    data = (tmp_path / "n" / "userdata.mime").read_text()
    assert "memory_mib: 12288\ncpu_count: 8\n" in data
    assert len(data) < 16384  # EC2's limit
    assert (tmp_path / "n" / "karpenter.yaml").exists() == (kind == "karpenter")
    if kind == "karpenter":
        import yaml

        kinds = [one["kind"] for one in yaml.safe_load_all((tmp_path / "n" / "karpenter.yaml").read_text())]
        assert kinds == ["EC2NodeClass", "NodePool", "NodeOverlay"]


@pytest.mark.parametrize("kind", ["al2023", "karpenter"])
def test_a_node_replaces_its_own_files_and_no_others(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "n"
    assert fleet(tmp_path, "node", "--for", kind, "--to", folder, "--slots", "2").status == 0
    assert fleet(tmp_path, "node", "--for", kind, "--to", folder).status == 0
    for name in sorted(path.name for path in folder.iterdir()):
        found = {path: path.read_bytes() for path in folder.iterdir()}
        (folder / name).write_text("#!/bin/sh\n# mine\n")
        done = fleet(tmp_path, "node", "--for", kind, "--to", folder, "--slots", "1")
        assert (done.status, f"{folder / name}: expected a file that enclavectl wrote" in done.err) == (
            2,
            True,
        )
        assert (folder / name).read_text().endswith("mine\n")
        (folder / name).write_bytes(found[folder / name])
        assert {path: path.read_bytes() for path in folder.iterdir()} == found


def test_a_profile_that_is_not_ours_is_no_rendered_file(tmp_path: Path) -> None:
    write_lock(tmp_path / "l.json")
    assert render(tmp_path, "--pod-security", "restricted").status == 0
    [profile] = (tmp_path / "k8s").glob("*.json")
    profile.write_text('{"defaultAction": "SCMP_ACT_ERRNO"}\n')
    done = render(tmp_path, "--pod-security", "restricted")
    assert (done.status, profile.name in done.err) == (2, True)
    assert "ERRNO" in profile.read_text()


@pytest.mark.parametrize(
    ("size", "arguments", "least", "enough"),
    [
        (180 * MIB, ("--cpus", "2", "--memory", "1024"), "2392 MiB, what the payload", "3072"),
        (180 * MIB, ("--cpus", "4", "--memory", "3072"), "4184 MiB, what the payload", "5120"),
        (1100 * MIB, ("--cpus", "2", "--memory", "4096"), "4400 MiB, 4 times the image", "5120"),
    ],
)
@pytest.mark.parametrize("command", ["render", "node"])
def test_less_memory_than_a_lock_needs_is_refused(
    tmp_path: Path, command: str, size: int, arguments: tuple[str, ...], least: str, enough: str
) -> None:
    lock = write_lock(tmp_path / "l.json", size=size)
    words: tuple[str | Path, ...] = (command, lock, "--to", tmp_path / "out", *arguments)
    done = fleet(tmp_path, *words)
    assert (done.status, f"expected at least {least}" in done.err) == (2, True)
    assert (f"found {arguments[-1]}" in done.err, f"--memory {enough}" in done.err) == (True, True)
    assert not (tmp_path / "out").exists()
    assert fleet(tmp_path, *words[:-1], enough).status == 0


@pytest.mark.parametrize("command", ["render", "node"])
def test_a_configured_size_is_held_to_what_a_lock_needs_as_that_of_the_option(
    tmp_path: Path, command: str
) -> None:
    """It was raised in silence: the file said one size, and the pods had another."""
    lock = write_lock(tmp_path / "l.json")
    settings = tmp_path / "c.yaml"
    words: tuple[str | Path, ...] = (command, lock, "--to", tmp_path / "out", "--cpus", "2")
    for size, told in ((1024, "at least 2392 MiB, what the payload"), (2500, "a multiple of 1024 MiB")):
        settings.write_text(f"enclave:\n  memory_mib: {size}\n")
        done = fleet(tmp_path, *words, "--config", settings)
        assert (done.status, f"{settings}:2: enclave.memory_mib: expected {told}" in done.err) == (2, True)
        assert (f"found {size}" in done.err, "--memory 3072" in done.err) == (True, True)
        variable = {"ENCLAVECTL_ENCLAVE_MEMORY_MIB": str(size)}
        done = enclavectl("fleet", *words, home=tmp_path, environ=variable)
        assert (done.status, "variable ENCLAVECTL_ENCLAVE_MEMORY_MIB: expected" in done.err) == (2, True)
    assert not (tmp_path / "out").exists()
    assert fleet(tmp_path, *words, "--config", settings, "--memory", "3072").status == 0


def test_the_status_of_gateways_is_read_and_a_fleet_without_enclaves_is_told(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    enclave = FakeEnclave(tmp_path / "e")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with gateway(tmp_path / "g", [f"skin-1@{enclave}"], "--metrics", f"127.0.0.1:{port}") as running:
        wait_until(lambda: "answers" in running.notes, "the enclave is asked")
        done = fleet(tmp_path, "status", f"127.0.0.1:{port}", "--output", "json")
        assert done.status == 0, done.err
        assert done.json()["releases"] == [{"label": "skin-1", "enclaves": 1, "up": 1, "in_flight": 0}]
    enclave.stop()
    gone = fleet(tmp_path, "status", f"127.0.0.1:{port}")
    assert gone.status == 6


def test_a_probe_challenges_what_is_announced(tmp_path: Path) -> None:
    from enclavectl.gateway.announced import announce
    from enclavectl.gateway.routing import parse_destination

    folder = tmp_path / "announced"
    folder.mkdir()
    assert fleet(tmp_path, "probe", "--from", folder).status == 6
    enclave = FakeEnclave(tmp_path / "e")
    announce(folder, "nitro", {"a": parse_destination(f"r@{enclave}")})
    assert fleet(tmp_path, "probe", "--from", folder).status == 0
    enclave.stop()
    assert fleet(tmp_path, "probe", "--from", folder).status == 6
