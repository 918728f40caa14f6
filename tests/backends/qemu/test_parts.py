"""The parts around the device: QEMU on this host, its command line, the steps and the failures of a boot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from enclavectl.backends.qemu.boot import BootProgress, BootStep
from enclavectl.backends.qemu.failure import find_cause
from enclavectl.backends.qemu.machine import QemuMachine, clock_khz
from enclavectl.backends.qemu.settings import QemuSettings
from enclavectl.config.choices import Accelerator
from enclavectl.errors import HostError
from enclavectl.host.probe import LiveProbe
from enclavectl.host.qemu import find_qemu
from enclavectl.host.tree import Tree

GOOD = {"--version": "QEMU emulator version 10.0.2 (Debian)", "-M help": "nitro-enclave   AWS Nitro Enclave"}


def fake_qemu(folder: Path, answers: dict[str, str], accelerators: str = "tcg") -> Path:
    """A program that answers as QEMU does."""
    folder.mkdir(parents=True)
    program = folder / "qemu-system-x86_64"
    cases = "".join(f"'{words}') echo '{text}';;\n" for words, text in answers.items())
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}"-accel help") echo {accelerators};;\nesac\n')
    program.chmod(0o755)
    return program


def found(tmp_path: Path, setting: Path | None = None, path: str = "/nowhere") -> tuple[Path, bool]:
    environ = {"PATH": path, "HOME": str(tmp_path)}
    qemu = find_qemu(LiveProbe(environ=environ), Tree(), environ, setting)
    return qemu.program, qemu.has_kvm


def test_the_setting_goes_before_the_path_and_that_before_the_cache(tmp_path: Path) -> None:
    cached = fake_qemu(tmp_path / ".cache" / "enclavectl-ci" / "qemu-10" / "bin", GOOD)
    if not Path("/usr/bin/qemu-system-x86_64").exists():
        assert found(tmp_path) == (cached, False)
    on_path = fake_qemu(tmp_path / "bin", GOOD)
    assert found(tmp_path, path=str(on_path.parent)) == (on_path, False)
    named = fake_qemu(tmp_path / "own", GOOD, accelerators="kvm")
    assert found(tmp_path, named, str(on_path.parent)) == (named, True)


def test_one_without_the_machine_on_the_path_leaves_it_to_the_cache(tmp_path: Path) -> None:
    cached = fake_qemu(tmp_path / ".cache" / "enclavectl-ci" / "qemu-10" / "bin", GOOD)
    lacking = fake_qemu(tmp_path / "bin", {**GOOD, "-M help": "microvm   microvm (i386)"})
    assert found(tmp_path, path=str(lacking.parent)) == (cached, False)


@pytest.mark.parametrize(
    ("answers", "lack"),
    [
        ({**GOOD, "-M help": "pc-nitro-enclave   no"}, "built without the machine nitro-enclave"),
        ({**GOOD, "--version": "QEMU emulator version 9.1.4"}, "expected QEMU 9.2 or newer, found 9.1.4"),
        ({"--version": "bash 5"}, "expected QEMU, found another program"),
    ],
)
def test_what_a_qemu_lacks_is_said(tmp_path: Path, answers: dict[str, str], lack: str) -> None:
    named = fake_qemu(tmp_path / "own", answers)
    with pytest.raises(HostError, match=lack) as caught:
        found(tmp_path, named)
    assert caught.value.code == "no-qemu"
    assert "qemu.program" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "identity", "way"),
    [
        ("os-release", "ID=fedora", "dnf install qemu-system-x86-core"),
        ("os-release", "ID=debian", "make qemu"),
        ("os-release", "ID=ubuntu\nID_LIKE=debian", "docs/qemu.md"),
        ("arch-release", "", "pacman -S qemu-system-x86"),
    ],
)
def test_how_to_get_one_is_said_for_this_distribution(
    tmp_path: Path, name: str, identity: str, way: str
) -> None:
    if Path("/usr/bin/qemu-system-x86_64").exists():
        pytest.skip("this host has a QEMU of its own")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / name).write_text(identity)
    environ = {"PATH": "/nowhere", "HOME": "/nowhere"}
    with pytest.raises(HostError) as caught:
        find_qemu(LiveProbe(environ=environ), Tree(root=tmp_path), environ, None)
    assert way in str(caught.value.hint)


def test_kvm_that_is_demanded_and_not_there_is_an_error(tmp_path: Path) -> None:
    named = fake_qemu(tmp_path / "own", GOOD)
    settings = QemuSettings(state_dir=tmp_path, environ={}, program=named, accelerator=Accelerator.KVM)
    with pytest.raises(HostError, match="built without KVM"):
        settings.choose(1)


def test_no_more_cpus_than_the_host_has_and_slow_emulation_are_said_once(tmp_path: Path) -> None:
    named = fake_qemu(tmp_path / "own", GOOD)
    emulator = QemuSettings(state_dir=tmp_path, environ={}, program=named).choose(1000)
    assert emulator.cpus == len(os.sched_getaffinity(0))
    assert (emulator.uses_kvm, len(emulator.notes)) == (False, 2)
    quiet = QemuSettings(state_dir=tmp_path, environ={}, program=named, accelerator=Accelerator.TCG).choose(1)
    assert quiet.notes == ()


def test_the_command_line_has_the_machine_and_no_socket_in_the_file_system() -> None:
    machine = QemuMachine(
        program=Path("/q"),
        image=Path("/i.eif"),
        module_id="i-0-enc1",
        memory_mib=512,
        cpus=2,
        uses_kvm=False,
        frontend_fd=7,
        clock_khz=2_400_000,
    )
    argv = machine.to_argv()
    assert argv[argv.index("-M") + 1] == "nitro-enclave,vsock=vsock,id=i-0-enc1,acpi=on"
    assert argv[argv.index("-chardev") + 1] == "socket,id=vsock,fd=7"
    assert "tsc_early_khz=2400000" in argv[-1]


@pytest.mark.parametrize(
    ("text", "khz"),
    [("cpu MHz\t\t: 2445.428\n", 2_445_000), ("", 2_000_000), ("cpu MHz : 0.1", 2_000_000)],
)
def test_the_clock_is_read_or_guessed(text: str, khz: int) -> None:
    assert clock_khz(text) == khz


def test_the_steps_of_a_boot_follow_its_console_and_never_go_back() -> None:
    progress = BootProgress()
    assert progress.see_line(b"SeaBIOS") is None
    assert progress.see_line(b"[    0.0] Linux version 6.12") is BootStep.KERNEL
    assert progress.see_line(b"[    6.1] Run /init as init process") is BootStep.INIT
    assert progress.see(BootStep.IMPORTS) is BootStep.IMPORTS
    assert progress.see_line(b"Linux version again") is None
    assert progress.see_line(b"x" * 300 + b"enclave_payload: serving model") is None
    assert progress.see_line(b"enclave_payload: serving model demo") is BootStep.SERVING


@pytest.mark.parametrize(
    ("console", "code"),
    [
        ("qemu-system-x86_64: unsupported machine type: nitro-enclave", "no-machine"),
        ("Initramfs unpacking failed: write error\nKernel panic - not syncing: VFS", "out-of-memory"),
        ("Out of memory: Killed process 60\ninit: the command ended with signal 9", "out-of-memory"),
        ("ModuleNotFoundError: No module named 'x'\ninit: the command ended with", "module-missing"),
        ("[ 1.0] Kernel panic - not syncing: No working init found.", "no-init"),
        ("[ 1.0] Kernel panic - not syncing: Attempted to kill init!", "kernel-panic"),
        ("init: /app: No such file or directory\ninit: the command ended", "command-not-found"),
        ("init: heartbeat: connect to the parent: No such device", "no-heartbeat"),
        ("init: the command ended with status 3", "payload-ended"),
        ("qemu-system-x86_64: Failed to parse EIF", "qemu-failed"),
    ],
)  # fmt: skip
def test_a_failed_boot_has_one_line_of_cause_and_one_of_fix(console: str, code: str) -> None:
    cause = find_cause(console)
    assert cause is not None
    assert cause.code == code
    assert cause.fix
    assert "\n" not in cause.text + cause.fix


def test_what_a_guest_prints_cannot_command_the_terminal() -> None:
    cause = find_cause("qemu-system-x86_64: \x1b[2J" + "x" * 10_000)
    assert cause is not None
    assert "\x1b" not in cause.text
    assert len(cause.text) < 300


def test_a_quiet_console_has_no_cause() -> None:
    assert find_cause("[ 0.0] Linux version\nenclave_payload: serving model demo") is None
