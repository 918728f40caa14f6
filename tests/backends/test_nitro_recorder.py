"""The recorder of a console: what an enclave wrote last is in the log."""

from __future__ import annotations

import os
from pathlib import Path

from enclavectl.backends.nitro.recorder import Recorder


def test_the_last_words_of_an_ended_enclave_are_in_the_log(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "console.log")
    recorder.fd, write = os.pipe()
    os.write(write, b"panic: no init\nend of ")
    os.close(write)
    recorder.finish()
    lines = (tmp_path / "console.log").read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["panic: no init", "end of "]
    assert recorder.fd is None
