"""Any bytes are a configuration file's settings, each of a known key and with its line, or a UsageError."""

from pathlib import Path

from enclavectl.config.load import SETTINGS, parse_config
from enclavectl.config.template import render_default
from enclavectl.errors import UsageError

_FILE = Path("/etc/enclavectl.yaml")
_KEYS = {one.key for one in SETTINGS}

SEEDS: list[bytes] = [
    b"",
    b"backend: local\ndiagnose: {top: 3}\nenclave:\n  cid: 16\npolicy: ~\n",
    b"state_dir: ~/s\nmodel: ./m.yaml\nlocal:\n  workers: 2\n",
    render_default().replace("#: ", "").encode(),
    b"- [{a: &a 1}, *a, !!str 1, 'x', \"\\u0041\"]\n",
    b"%YAML 1.1\n--- |\n  text\n...\n",
]


def one(data: bytes) -> None:
    try:
        found = parse_config(data, _FILE, environ={"HOME": "/home/ada"})
    except UsageError as exc:
        _check_message(exc.message)
        return
    lines = data.decode("utf-8-sig")
    for key, (_, source) in found.items():
        assert key in _KEYS
        place, _, line = source.where.rpartition(":")
        assert place == str(_FILE)
        assert 1 <= int(line) <= len(lines) + 1


def _check_message(message: str) -> None:
    assert message.startswith(str(_FILE)), message
    assert len(message) < 2000
    message.encode()  # what is shown can be written
