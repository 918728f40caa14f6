"""Any bytes that nitro-cli writes are an answer, a JsonError or an error to show; nothing else happens."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from enclavectl.json_object import JsonError, JsonObject
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.nitro_cli.build_enclave import BuildInfo
from enclavectl.nitro_cli.describe_enclaves import DescribeInfo
from enclavectl.nitro_cli.failure import failed_connections, read_failure
from enclavectl.nitro_cli.stream import json_values, objects
from enclavectl.nitro_cli.terminate_enclave import TerminateInfo
from enclavectl.nitro_cli.version import NitroVersion
from enclavectl.run import Output

_READERS = (RunInfo, DescribeInfo, TerminateInfo, BuildInfo)
_RUN = {
    "EnclaveName": "a",
    "EnclaveID": "i-0-enc1",
    "ProcessID": 1,
    "EnclaveCID": 16,
    "CPUIDs": [1, 3],
    "MemoryMiB": 64,
    "State": "RUNNING",
    "Flags": "NONE",
    "Measurements": {"HashAlgorithm": "x", "PCR0": "0" * 96},
    "Terminated": True,
}
_ERROR = (
    "Start allocating memory...\n[ E29 ] Ioctl failure.\nFile: 'a', failing operation: 'Open'.\n\n"
    "Backtrace:\n  Action: Run Enclave\n  Subactions:\n    Start enclave ioctl failed\n    Full cores\n"
    "  Root error file: x\n"
    'Failed connections: 1\n[ E39 ] Connection.\n\nIf you open a support ticket, error log found at "/x"\n'
)
SEEDS: list[bytes] = [
    b"",
    json.dumps([_RUN, _RUN]).encode(),
    (json.dumps(_RUN) * 2 + "\nConnecting [ 0.0 ] {").encode(),
    _ERROR.encode(),
    b"Nitro CLI 1.5.0\n",
    b"[]",
]


def one(data: bytes) -> None:
    with contextlib.suppress(JsonError):
        values, rest = json_values(data)
        text = data.decode("utf-8", errors="replace").lstrip(" \t\r\n")
        assert text.endswith(rest), "the rest is not the end of what was written"
        assert values or rest == text or text.startswith("["), "something went without a value"
        for value in objects(data):
            for reader in _READERS:
                try:
                    answer = reader.from_json(value)
                except JsonError:
                    continue
                if isinstance(answer, RunInfo):
                    assert RunInfo.from_json(JsonObject.of(answer.to_json())) == answer
    with contextlib.suppress(ValueError):
        NitroVersion.from_text(data.decode("utf-8", errors="replace"))
    assert failed_connections(data) >= 0
    error = read_failure(Output(status=39, out=b"", err=data), _no_log).to_error("run-enclave")
    assert error.exit_code in (3, 6)


def _no_log(_path: Path) -> str:
    return ""
