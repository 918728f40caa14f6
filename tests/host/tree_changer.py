"""A changer for recorded hosts: what real programs would change, changed in the recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.errors import HostError
from enclavectl.host.changer import Action
from enclavectl.host.reservation import ALLOCATOR_FILE, parse_allocator
from tests.host import trees


@dataclass
class TreeChanger:
    """A changer that works on a recorded tree as real programs do on a host; fails where told to."""

    folder: Path
    fails_at: str = "nothing"
    pages_mib: int | None = None
    is_root: bool = False
    ran: list[str] = field(default_factory=list)

    def run(self, action: Action) -> None:
        line = " ".join(action.argv)
        if self.fails_at in line:
            raise HostError(f"{line}: failed with status 1: no space left on device")
        self.ran.append(line)
        words = list(action.argv)
        if words[0] == "systemctl" and words[1] == "restart":
            self.allocate()
        elif words[0] == "systemctl":
            trees.record(self.folder, answers={
                f"systemctl {word} {words[-1].removesuffix('.service')}.service": {"status": 0, "text": text}
                for word, text in (("is-active", "active\n"), ("is-enabled", "enabled\n"))
            })  # fmt: skip
        elif "install" in words and words[0] != "install":
            self.install(line)
        elif words[0] == "usermod":
            self.join(words[2])
        elif words[0] == "modprobe":
            trees.write(self.folder, "/sys/module/nitro_enclaves/parameters/ne_cpus", "\n")
        elif words[0] == "rm":
            trees.remove(self.folder, words[-1])

    def replace(self, name: str, data: bytes, *, mode: int) -> None:
        if self.fails_at in f"write {name}":
            raise HostError(f"{name}: cannot write (Read-only file system)")
        self.ran.append(f"write {name} {mode:o}")
        trees.write(self.folder, name, data)

    def install(self, line: str) -> None:
        if "docker" in line or "moby" in line:
            trees.write(self.folder, "/usr/bin/dockerd", "")
            self.group("docker", 992)
        elif "-devel" in line:
            trees.write(self.folder, "/usr/share/nitro_enclaves/blobs/cmdline", "")
        elif "nitro-enclaves-cli" in line:
            trees.write(self.folder, "/usr/bin/nitro-cli", "")
            trees.write(self.folder, ALLOCATOR_FILE, "---\n# shipped\nmemory_mib: 512\ncpu_count: 2\n")
            self.group("ne", 991)

    def group(self, name: str, number: int) -> None:
        trees.write(
            self.folder, "/etc/group", (self.folder / "etc/group").read_text() + f"{name}:x:{number}:\n"
        )

    def join(self, name: str) -> None:
        text = (self.folder / "etc/group").read_text()
        lines = [f"{line}ec2-user" if line.startswith(f"{name}:") else line for line in text.splitlines()]
        trees.write(self.folder, "/etc/group", "\n".join(lines) + "\n")

    def allocate(self) -> None:
        """What AWS's allocator does: the pool from the file, and as much memory as there is."""
        wanted = parse_allocator((self.folder / ALLOCATOR_FILE.lstrip("/")).read_bytes())
        half = wanted.cpus // 2
        trees.cpus(self.folder, offline=f"1-{half},9-{8 + half}")
        had = self.pages_mib is not None and wanted.memory_mib > self.pages_mib
        trees.pages(self.folder, 1024, 0 if had else wanted.memory_mib // 1024)
