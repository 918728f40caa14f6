"""``recording.json`` in a recorded tree: what a copy of files cannot keep.

::

    {"user": {"name": "ec2-user", "uid": 1000, "gids": [1000, 991]},
     "python": {"version": [3, 11, 7], "modules": ["tflite_runtime"]},
     "machine": "x86_64", "now": "2026-11-24T12:00:00+00:00", "environ": {"HOME": "/home/ec2-user"},
     "files": {"/dev/nitro_enclaves": {"mode": "020660", "uid": 0, "gid": 991}},
     "free": {"/": 10737418240}, "programs": {"nitro-cli": "/usr/bin/nitro-cli"},
     "answers": {"nitro-cli --version": {"status": 0, "text": "Nitro CLI 1.4.3"}},
     "engine": {"Version": "25.0.3", "ApiVersion": "1.44"}, "vsock": "EPERM"}

Every key may be absent. ``engine`` is an object, null for "none", or a text for why it does not answer.
``vsock`` is the name of the error that making such a socket gave, or null for none.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.errors import HostError, UsageError
from enclavectl.files import read_bounded
from enclavectl.host.host import Host, Python, User
from enclavectl.host.probe import Answer
from enclavectl.host.tree import FileFacts, Tree

RECORDING = "recording.json"
# Answers of some dozens of programs, each of a few KiB; bounds what a wrong file costs.
_MAX_RECORDING = 4 << 20
_NOT_RECORDED = "not recorded"
_KEYS = {
    "user",
    "python",
    "machine",
    "now",
    "environ",
    "files",
    "free",
    "programs",
    "answers",
    "engine",
    "vsock",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedProbe:
    """Answers that were written down. What was not asked then cannot be known now."""

    programs: Mapping[str, str]
    answers: Mapping[str, Answer]
    engine_answer: Mapping[str, object] | str | None
    vsock: str | None

    def find(self, program: str) -> str | None:
        """Return where the program was, or None."""
        return self.programs.get(program)

    def run(self, *argv: str) -> Answer | None:
        """Return what it said then, or None where it was not installed."""
        line = " ".join(argv)
        if line in self.answers:
            return self.answers[line]
        if argv[0] not in self.programs:
            return None
        raise HostError(f"the recording has no answer of: {line}", code="not-recorded")

    def vsock_error(self) -> int | None:
        """Return the number of the error that there was then, or None."""
        if self.vsock == _NOT_RECORDED:
            raise HostError(
                "the recording does not say whether vsock sockets can be made", code="not-recorded"
            )
        return None if self.vsock is None else getattr(errno, self.vsock)

    def engine(self, socket_path: str) -> Mapping[str, object] | None:  # noqa: ARG002 - one engine was asked
        """Return what the engine said then."""
        if isinstance(self.engine_answer, str):
            raise HostError(self.engine_answer, code="docker-silent")
        return self.engine_answer


def recorded_host(root: Path) -> Host:
    """Open the host that was copied to ``root``.

    Raises:
        UsageError: no folder, or its recording is damaged.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: expected a folder with a host's files")
    path = root / RECORDING
    data = read_bounded(path, _MAX_RECORDING, what="recording") if path.exists() else b"{}"
    try:
        return _host(root, _known(json.loads(data)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise UsageError(f"{path}: expected a recording, found something else ({exc!r:.120})") from exc


def _host(root: Path, value: Mapping[str, dict[str, object]]) -> Host:
    user = value.get("user", {"name": "nobody", "uid": 65534, "gids": [65534]})
    python = value.get("python", {"version": [3, 11, 0], "modules": []})
    engine: object = value.get("engine", "the recording has no answer of the engine")
    if not (engine is None or isinstance(engine, dict | str)):
        raise ValueError("engine")
    major, minor, patch = (_whole(part) for part in _list(python["version"]))
    return Host(
        tree=Tree(
            root=root,
            facts_of={
                name: FileFacts(mode=int(str(one["mode"]), 8), uid=_whole(one["uid"]), gid=_whole(one["gid"]))
                for name, one in _objects(value.get("files", {})).items()
            },
            free_of={name: _whole(free) for name, free in value.get("free", {}).items()},
        ),
        probe=RecordedProbe(
            programs={name: str(path) for name, path in value.get("programs", {}).items()},
            answers={
                line: Answer(status=_whole(one["status"]), text=str(one["text"]))
                for line, one in _objects(value.get("answers", {})).items()
            },
            engine_answer=engine,
            vsock=_vsock(value),
        ),
        user=User(
            name=str(user["name"]),
            uid=_whole(user["uid"]),
            gids=frozenset(_whole(gid) for gid in _list(user["gids"])),
        ),
        python=Python(
            version=(major, minor, patch),
            modules=frozenset(str(name) for name in _list(python["modules"])),
        ),
        machine=str(value.get("machine", "x86_64")),
        environ={name: str(text) for name, text in value.get("environ", {}).items()},
        now=_moment(str(value["now"])) if "now" in value else datetime.now(UTC),
    )


def _vsock(value: Mapping[str, object]) -> str | None:
    found = value.get("vsock", _NOT_RECORDED)
    if found is None or found == _NOT_RECORDED or found in errno.errorcode.values():
        return None if found is None else str(found)
    raise ValueError(f"vsock: expected the name of an error such as EPERM, found {found!r:.40}")


def _known(value: object) -> dict[str, dict[str, object]]:
    if not isinstance(value, dict) or set(value) - _KEYS:
        raise ValueError(f"expected an object with keys of {', '.join(sorted(_KEYS))}")
    return value


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("now: expected a time zone")
    return found


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a whole number, found {value!r:.40}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {value!r:.40}")
    return value


def _objects(value: Mapping[str, object]) -> dict[str, dict[str, object]]:
    found = {name: one for name, one in value.items() if isinstance(one, dict)}
    if len(found) != len(value):
        raise TypeError("expected objects")
    return found
