"""Each rule of the lint, on images made in code."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclavectl.backends.keeping.images import check_memory
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.archive import ImageArchive
from enclavectl.eif.ramdisk.cpio import TRAILER, CpioEntry, CpioWriter
from enclavectl.eif.ramdisk.layers import ImpliedDirectories
from enclavectl.eif.ramdisk.manifest import ImageConfig
from enclavectl.eif.ramdisk.ramdisks import Mode
from enclavectl.eif.scan import parse_layout
from enclavectl.errors import UsageError
from enclavectl.image.context import ContextFile
from enclavectl.image.findings import (
    MAX_OF_A_RULE,
    LintFinding,
    Rule,
    bounded,
    is_allowed,
    parse_allowed,
    refuse_blocking,
)
from enclavectl.image.lint import (
    lint_architecture,
    lint_config,
    lint_context,
    lint_implied,
    lint_layers,
    lint_memory,
    lint_model,
    lint_ramdisk,
    lint_signature,
)
from enclavectl.models.find import PACKAGED_ID, find_model
from enclavectl.models.weights import load_weights
from tests.eif import samples
from tests.image.test_secrets import EC_KEY
from tests.models.test_probe import SIDE, good, model, newer_dense

CONFIG = ImageConfig(
    image_id="0" * 64,
    architecture="amd64",
    cmd=("/bin/app",),
    entrypoint=None,
    env=("PATH=/bin",),
    ignored=(),
    raw={},
)


def rules(findings: object) -> list[Rule]:
    return [one.rule for one in findings]  # type: ignore[attr-defined]  # the parameter takes any iterable


def archive(*layers: object) -> ImageArchive:
    return ImageArchive(config=CONFIG, layers=tuple(layers))  # type: ignore[arg-type]  # the parameter takes any objects


def test_a_sound_image_has_no_findings() -> None:
    layer = samples.layer(samples.directory("bin"), samples.text("bin/app", b"app"))
    assert list(lint_config(CONFIG)) == []
    assert list(lint_layers(archive(layer), Mode.NITRO_CLI)) == []
    assert list(lint_memory(100 << 20, 400)) == []
    assert list(lint_architecture(Arch.X86_64, Arch.X86_64, Path("bzImage"))) == []
    assert list(lint_implied(ImpliedDirectories(), Mode.NITRO_CLI)) == []


@pytest.mark.parametrize("size", [1, 15 << 20, (16 << 20) + 1, 91 << 20, (912 << 20) // 10, (1 << 30) - 1])
def test_the_lint_asks_for_the_memory_that_run_asks_for(size: int) -> None:
    """An image of 91.2 MiB needs 368 MiB: nitro-cli counts whole MiB of the image."""
    least = next(mib for mib in range(64, 1 << 13) if not list(lint_memory(size, mib)))
    check_memory(size, least)
    if least > 64:  # the driver's least
        with pytest.raises(UsageError, match=f"at least {least} MiB"):
            check_memory(size, least - 1)
    if size == (912 << 20) // 10:
        assert least == 368


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (replace(CONFIG, entrypoint=("/bin/a",)), Rule.ENTRYPOINT_AND_CMD),
        (replace(CONFIG, cmd=("app",)), Rule.RELATIVE_COMMAND),
        (replace(CONFIG, cmd=None, entrypoint=("./app",)), Rule.RELATIVE_COMMAND),
        (replace(CONFIG, cmd=None), Rule.NO_COMMAND),
        (replace(CONFIG, cmd=()), Rule.NO_COMMAND),
        (replace(CONFIG, env=("DB_PASSWORD=x",)), Rule.CREDENTIAL),
        (replace(CONFIG, ignored=("User",)), Rule.IGNORED_SETTING),
        (
            replace(CONFIG, ignored=("WorkingDir",), raw={"config": {"WorkingDir": "/app"}}),
            Rule.IGNORED_SETTING,
        ),
        (replace(CONFIG, ignored=("Healthcheck",)), Rule.IGNORED_SETTING),
    ],
)
def test_settings_that_an_enclave_does_not_honor(config: ImageConfig, rule: Rule) -> None:
    assert rules(lint_config(config)) == [rule]


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (replace(CONFIG, cmd=("/bin/app", "--key", "ghp_" + "a" * 36)), "image: CMD"),
        (replace(CONFIG, env=("SETTINGS=" + EC_KEY.decode(),)), "image: ENV SETTINGS"),
        (replace(CONFIG, raw={"config": {"Labels": {"by": "ghp_" + "a" * 36}}}), "image: LABEL by"),
        (
            replace(CONFIG, raw={"history": [{}, {"created_by": "RUN |1 MY_TOKEN=abcd /bin/sh -c make"}]}),
            "image: step 2 of its history",
        ),
        (
            replace(CONFIG, raw={"history": [{"created_by": "RUN pip install -i https://me:abcd@host/ x"}]}),
            "image: step 1 of its history",
        ),
    ],
)
def test_secrets_in_what_docker_keeps_of_an_image(config: ImageConfig, where: str) -> None:
    (finding,) = lint_config(config)
    assert finding.rule in {Rule.CREDENTIAL, Rule.PRIVATE_KEY}
    assert finding.where == where
    assert "abcd" not in str(finding)
    assert "a" * 36 not in str(finding)


def test_an_image_of_nothing_but_findings_is_a_short_list() -> None:
    names = [f"{'x' * 90}/{'y' * 90}/{'z' * 90}/{number}/.netrc" for number in range(1000)]
    links = [samples.hardlink(f"link{number}", names[0]) for number in range(1000)]
    layer = samples.layer(*(samples.text(name) for name in names), *links)
    found = list(bounded(lint_layers(archive(layer), Mode.NITRO_CLI)))
    assert len(found) == MAX_OF_A_RULE + 2
    assert found[-1].message == "950 more of these"
    assert found[-2].where.endswith("(and 999 more)")
    assert max(len(str(one)) for one in found) < 500


def test_the_default_working_folder_is_not_worth_a_word() -> None:
    assert (
        rules(lint_config(replace(CONFIG, ignored=("WorkingDir",), raw={"config": {"WorkingDir": "/"}})))
        == []
    )


def test_a_key_in_a_lower_layer_is_found_with_its_layer_and_path() -> None:
    first = samples.layer(samples.directory("app"), samples.text("app/key.pem", EC_KEY))
    second = samples.layer(samples.directory("app"), samples.text("app/.wh.key.pem"))
    (finding,) = lint_layers(archive(first, second), Mode.REPRODUCIBLE)
    assert finding.rule is Rule.PRIVATE_KEY
    assert finding.where == "layer 1: /app/key.pem"


def test_what_a_ramdisk_does_not_keep() -> None:
    capable = samples.text("ping", b"x", pax_headers={"SCHILY.xattr.security.capability": "x"})
    layer = samples.layer(
        capable,
        samples.text("Dockerfile"),
        samples.text("a"),
        samples.hardlink("b", "a"),
        samples.hardlink("c", "a"),
    )
    assert set(rules(lint_layers(archive(layer), Mode.NITRO_CLI))) == {
        Rule.FILE_CAPABILITIES,
        Rule.ROOT_DOCKERFILE,
        Rule.HARD_LINKS,
    }
    assert Rule.HARD_LINKS not in rules(lint_layers(archive(layer), Mode.REPRODUCIBLE))


def test_directories_that_no_layer_lists_matter_to_nitro_cli_only() -> None:
    some = ImpliedDirectories(count=1, examples=(b"usr/lib",))
    assert rules(lint_implied(some, Mode.NITRO_CLI)) == [Rule.MISSING_DIRECTORIES]
    assert list(lint_implied(some, Mode.REPRODUCIBLE)) == []


def test_an_arm_kernel_does_not_go_with_an_amd64_image() -> None:
    assert rules(lint_architecture(Arch.X86_64, Arch.ARM64, Path("Image"))) == [Rule.ARCHITECTURE]
    assert list(lint_architecture(Arch.X86_64, None, Path("odd"))) == []


def test_memory_is_four_times_the_image() -> None:
    assert rules(lint_memory((100 << 20) + 1, 400)) == [Rule.MEMORY]


def test_keys_in_the_context_and_in_a_finished_ramdisk(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(EC_KEY)
    files = [ContextFile(name="a", data=b"fine"), ContextFile(name="key", path=tmp_path / "key")]
    assert [one.where for one in lint_context(files)] == ["context: key"]
    sink = io.BytesIO()
    writer = CpioWriter(sink)
    writer.add(CpioEntry(name=b"env", ino=1, mode=0o100644, size=len(EC_KEY)), [EC_KEY])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    assert [one.where for one in lint_ramdisk(bytes_range(sink.getvalue()), "ramdisk1")] == ["ramdisk1: /env"]


def test_the_packaged_model_has_a_fixed_batch() -> None:
    assert (
        list(lint_model(find_model(PACKAGED_ID, data_dir=Path("/nonexistent")), is_images_runtime=True)) == []
    )


def test_a_newer_operation_is_for_the_runtime_of_the_image_to_judge(tmp_path: Path) -> None:
    newer = model(tmp_path, newer_dense())
    assert list(lint_model(newer, is_images_runtime=False)) == []
    with pytest.raises(UsageError, match="'FULLY_CONNECTED' version '99'"):
        list(lint_model(newer, is_images_runtime=True))


def test_a_dynamic_batch_is_a_finding(tmp_path: Path) -> None:
    (one,) = lint_model(model(tmp_path, good(signature=[-1, SIDE, SIDE, 3])), is_images_runtime=True)
    assert one.rule is Rule.DYNAMIC_BATCH


def test_a_model_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        list(lint_model(model(tmp_path, b"no model"), is_images_runtime=True))
    assert caught.value.code == "model-broken"


def test_a_model_that_crashes_the_runtime_does_not_crash_us(tmp_path: Path) -> None:
    packaged = find_model(PACKAGED_ID, data_dir=Path("/nonexistent"))
    weights = bytearray(load_weights(packaged))
    weights[-1000] ^= 1  # tflite-runtime 2.14 ends with signal 11 on it; its successor may not mind
    (tmp_path / "model.tflite").write_bytes(weights)
    card = replace(packaged.card, sha256=hashlib.sha256(weights).hexdigest())
    damaged = replace(packaged, card=card, weights_path=tmp_path / "model.tflite")
    with suppress(UsageError):
        assert list(lint_model(damaged, is_images_runtime=True)) == []


def finding(rule: Rule) -> LintFinding:
    return LintFinding(rule=rule, where="here", message="wrong")


def test_only_blocking_findings_block_and_a_reason_lets_them_pass() -> None:
    refuse_blocking([finding(Rule.IGNORED_SETTING), finding(Rule.HARD_LINKS)], {})
    with pytest.raises(UsageError, match="private-key: here: wrong") as caught:
        refuse_blocking([finding(Rule.PRIVATE_KEY)], {})
    assert caught.value.code == "lint-private-key"
    refuse_blocking([finding(Rule.PRIVATE_KEY)], parse_allowed(["private-key=only a test key"]))


@pytest.mark.parametrize("option", ["privat-key=x", "private-key", "private-key= ", "=x", ""])
def test_a_rule_passes_only_by_its_name_and_with_a_reason(option: str) -> None:
    with pytest.raises(UsageError):
        parse_allowed([option])
    with pytest.raises(UsageError, match="twice"):
        parse_allowed(["memory=a", "memory=b"])


@pytest.mark.parametrize(
    ("option", "where", "passes"),
    [
        ("private-key:/app/test.pem=a test", "layer 3: /app/test.pem", True),
        ("private-key:/app/test.pem=a test", "ramdisk1: /rootfs/app/test.pem", True),
        ("private-key:app/test.pem=a test", "context: app/test.pem", True),
        ("private-key:app/tests/*=a test", "layer 3: /app/tests/a/key.pem", True),
        ("private-key:/app/test.pem=a test", "layer 3: /app/prod.pem", False),
        ("private-key:/app/test.pem=a test", "elsewhere", False),
        ("credential:/app/test.pem=a test", "layer 3: /app/test.pem", False),
    ],
)
def test_a_reason_may_be_for_one_place_only(option: str, where: str, passes: bool) -> None:
    one = LintFinding(rule=Rule.PRIVATE_KEY, where=where, message="a private key")
    assert is_allowed(one, parse_allowed([option])) is passes


def test_the_place_to_allow_is_named() -> None:
    one = LintFinding(rule=Rule.PRIVATE_KEY, where="layer 3: /app/a.pem", message="a private key")
    with pytest.raises(UsageError) as caught:
        refuse_blocking([one], parse_allowed(["private-key:/app/b.pem=a test"]))
    assert "--allow 'private-key:/app/a.pem=REASON'" in str(caught.value.hint)
    with pytest.raises(UsageError, match="a place"):
        parse_allowed(["private-key:=a test"])


def test_a_private_key_from_the_certificate_file_is_found_in_the_signature() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    for certificate, rules in (
        (samples.certificate(key), []),
        (samples.key_pem(key) + samples.certificate(key), [Rule.PRIVATE_KEY]),
    ):
        layout = parse_layout(io.BytesIO(samples.signed_image(key, certificate)))
        section = layout.sections[-1]
        assert [one.rule for one in lint_signature(layout.data(section))] == rules
