"""The build context: everything that is needed, and the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from enclavectl.errors import HostError
from enclavectl.image.context import folder_context, payload_context, write_context
from enclavectl.image.wheels import Wheel, WheelStore
from enclavectl.models import PACKAGED_ID, find_model


def kept(store: WheelStore, name: str) -> Wheel:
    data = name.encode()
    file = f"{name}-1-py3-none-any.whl"
    wheel = Wheel(name=name, version="1", file=file, sha256=hashlib.sha256(data).hexdigest())
    store.path(wheel).parent.mkdir(parents=True)
    store.path(wheel).write_bytes(data)
    return wheel


def test_the_payloads_context_is_complete_and_has_no_cache(tmp_path: Path) -> None:
    store = WheelStore(folder=tmp_path, environ={})
    wheels = [kept(store, "numpy"), kept(store, "pip")]
    files = payload_context(find_model(PACKAGED_ID, data_dir=tmp_path), wheels, store)
    names = [file.name for file in files]
    assert names == sorted(names)
    assert {"Dockerfile", "assemble.py", "enclave_payload/__main__.py", "wheels/pip.whl"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".yaml")]
    sink = io.BytesIO()
    write_context(files, sink)
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        requirements = archive.extractfile("wheels/requirements.txt")
        assert requirements is not None
        assert requirements.read() == f"numpy==1 --hash=sha256:{wheels[0].sha256}\n".encode()


def test_times_and_places_do_not_change_a_context(tmp_path: Path) -> None:
    tars = []
    for number, name in enumerate(("first", "second")):
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        for path in ("Dockerfile", "sub/a"):
            (folder / path).write_text(path)
            os.utime(folder / path, (number, number))
        (folder / "sub/a").chmod(0o750 if number else 0o700)
        sink = io.BytesIO()
        write_context(folder_context(folder), sink)
        tars.append(sink.getvalue())
    assert tars[0] == tars[1]


def test_links_are_not_followed_out_of_a_context(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").symlink_to("/etc/passwd")
    with pytest.raises(HostError, match="something else"):
        folder_context(tmp_path)
