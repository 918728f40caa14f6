"""``recording.json`` in a recorded tree: the facts that a copy of files cannot keep.

::

    {"user": {"name": "ec2-user", "uid": 1000, "gids": [1000, 991]},
     "python": {"version": [3, 11, 7], "modules": ["tflite_runtime"]},
     "machine": "x86_64", "now": "2026-11-24T12:00:00+00:00", "environ": {"HOME": "/home/ec2-user"},
     "files": {"/dev/nitro_enclaves": {"mode": "020660", "uid": 0, "gid": 991}},
     "free": {"/": 10737418240}, "programs": {"nitro-cli": "/usr/bin/nitro-cli"},
     "answers": {"nitro-cli --version": {"status": 0, "text": "Nitro CLI 1.4.3"}},
     "engine": {"Version": "25.0.3", "ApiVersion": "1.44"}, "vsock": "EPERM"}

Every key may be absent. ``engine`` is an object, null for no engine, or a text with the reason why it does
not answer. ``vsock`` is the name of the error of creating such a socket, or null for none.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.errors import HostError, UsageError
from enclavectl.files import is_folder, read_bounded, status_at
from enclavectl.host.host import Host, Python, User
from enclavectl.host.probe import Answer
from enclavectl.host.tree import FileFacts, Tree
from enclavectl.json_object import JsonObject

RECORDING = "recording.json"
# Answers of some dozens of programs, each of a few KiB; it bounds the cost of a wrong file.
_MAX_RECORDING = 4 << 20
_OCTAL = re.compile("[0-7]{1,7}")
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
    """The probe of a recorded host. It knows only the recorded answers."""

    programs: Mapping[str, str]
    answers: Mapping[str, Answer]
    engine_answer: Mapping[str, object] | str | None
    vsock: str | None

    def find(self, program: str) -> str | None:
        """Return the recorded path of the program, or None."""
        return self.programs.get(program)

    def run(self, *argv: str) -> Answer | None:
        """Return the recorded answer, or None if the program was not installed."""
        line = " ".join(argv)
        if line in self.answers:
            return self.answers[line]
        if argv[0] not in self.programs:
            return None
        raise HostError(f"the recording has no answer of: {line}", code="not-recorded")

    def vsock_error(self) -> int | None:
        """Return the recorded error number, or None."""
        if self.vsock == _NOT_RECORDED:
            raise HostError(
                "the recording does not say whether vsock sockets can be made", code="not-recorded"
            )
        return None if self.vsock is None else getattr(errno, self.vsock)

    def engine(self, socket_path: str) -> Mapping[str, object] | None:  # noqa: ARG002 - one engine was asked
        """Return the engine's recorded answer."""
        if isinstance(self.engine_answer, str):
            raise HostError(self.engine_answer, code="docker-silent")
        return self.engine_answer


def recorded_host(root: Path) -> Host:
    """Open the host that was copied to ``root``.

    Raises:
        UsageError: it is no folder, or its recording is damaged.
    """
    if not is_folder(root):
        raise UsageError(
            f"{root}: expected a folder with a host's files, found none",
            hint="leave --host-root out to look at this machine",
        )
    path = root / RECORDING
    data = read_bounded(path, _MAX_RECORDING, what="recording") if status_at(path) is not None else b"{}"
    try:
        return _host(root, JsonObject.parse(data, limit=_MAX_RECORDING))
    except ValueError as exc:  # JsonError, or a malformed number or version
        raise UsageError(f"{path}: expected a recording, found something else ({exc!s:.120})") from exc


def _host(root: Path, value: JsonObject) -> Host:
    value.require_keys((), _KEYS)
    nobody = JsonObject({"name": "nobody", "uid": 65534, "gids": [65534]})
    user = value.object("user") if "user" in value else nobody
    plain = JsonObject({"version": [3, 11, 0], "modules": []})
    python = value.object("python") if "python" in value else plain
    major, minor, patch = python.integers("version")
    return Host(
        tree=Tree(
            root=root,
            facts_of={
                name: FileFacts(
                    mode=int(one.string("mode", pattern=_OCTAL), 8),
                    uid=one.integer("uid"),
                    gid=one.integer("gid"),
                )
                for name, one in _objects(value, "files").items()
            },
            free_of={name: _inner(value, "free").integer(name) for name in _inner(value, "free")},
        ),
        probe=RecordedProbe(
            programs=_texts(value, "programs"),
            answers={
                line: Answer(status=one.integer("status"), text=one.string("text"))
                for line, one in _objects(value, "answers").items()
            },
            engine_answer=_engine(value),
            vsock=_vsock(value),
        ),
        user=User(
            name=user.string("name"),
            uid=user.integer("uid"),
            gids=frozenset(user.integers("gids")),
        ),
        python=Python(
            version=(major, minor, patch),
            modules=frozenset(python.strings("modules")),
        ),
        machine=value.string("machine") if "machine" in value else "x86_64",
        environ=_texts(value, "environ"),
        now=value.time("now") if "now" in value else datetime.now(UTC),
    )


def _engine(value: JsonObject) -> Mapping[str, object] | str | None:
    if "engine" not in value:
        return "the recording has no answer of the engine"
    if isinstance(value.members["engine"], str):
        return value.string("engine")
    found = value.optional_object("engine")
    return None if found is None else found.members


def _vsock(value: JsonObject) -> str | None:
    if "vsock" not in value:
        return _NOT_RECORDED
    found = value.optional_string("vsock")
    if found is not None and found not in errno.errorcode.values():
        raise ValueError(f"vsock: expected the name of an error such as EPERM, found {found!r:.40}")
    return found


def _inner(value: JsonObject, key: str) -> JsonObject:
    return value.object(key) if key in value else JsonObject({})


def _texts(value: JsonObject, key: str) -> dict[str, str]:
    return value.string_map(key) if key in value else {}


def _objects(value: JsonObject, key: str) -> dict[str, JsonObject]:
    inner = _inner(value, key)
    return {name: inner.object(name) for name in inner}
