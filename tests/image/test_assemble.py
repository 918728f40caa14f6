"""What the build stage does to native code, on this machine's own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from enclavectl.image.assemble import copy_file, loaded_parts


def native_modules() -> list[Path]:
    """Extension modules with everything that linkers and packagers do to them."""
    folders = [Path(sysconfig.get_path(name)) for name in ("platlib", "stdlib")]
    return sorted({path for folder in folders for path in folder.rglob("*.so*") if path.is_file()})


def test_a_library_shrinks_and_still_loads(tmp_path: Path) -> None:
    source = next(path for path in native_modules() if path.name.startswith("_cbor2"))
    data = source.read_bytes()
    packed = loaded_parts(data)
    assert len(packed) < len(data)
    (tmp_path / "cbor2").mkdir()
    for path in source.parent.glob("*.py"):
        (tmp_path / "cbor2" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "cbor2" / source.name).write_bytes(packed)
    code = (
        "import cbor2, _cbor2"
        if source.parent.name != "cbor2"
        else "import cbor2._cbor2 as x; print(x.__file__)"
    )
    argv = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout


def test_packing_is_done_once() -> None:
    seen = 0
    for path in native_modules():
        data = path.read_bytes()
        if data.startswith(b"\x7fELF\x02\x01") and len(data) < 8 << 20:
            packed = loaded_parts(data)
            assert loaded_parts(packed) == packed, path
            seen += 1
    assert seen


def test_the_interpreter_still_runs(tmp_path: Path) -> None:
    source = Path(sys.executable).resolve()
    data = source.read_bytes()
    if not data.startswith(b"\x7fELF\x02\x01"):
        pytest.skip("this interpreter is no 64-bit little-endian ELF file")
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin" / source.name
    copy.write_bytes(loaded_parts(data))
    copy.chmod(0o755)
    environment = {"PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": f"{sys.base_prefix}/lib"}
    argv = [str(copy), "-c", "print(6 * 7)"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


def test_the_payloads_bytecode_is_taken_only_beside_the_source_that_it_was_made_of(tmp_path: Path) -> None:
    source, root, target = tmp_path / "enclave_payload" / "m.py", tmp_path / "root", tmp_path / "to"
    source.parent.mkdir()
    source.write_text("print(__cached__, 'as it was')\n")
    copy_file(source, root, target / "m.py")
    place = root / target.relative_to("/")
    assert (place / "m.py").read_bytes() == source.read_bytes()
    [bytecode] = (place / "__pycache__").iterdir()

    def run() -> str:
        code = f"import sys; sys.path.insert(0, {str(place)!r}); import m"
        argv = [sys.executable, "-I", "-B", "-v", "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        return f"{done.stdout} matches: {f'# {bytecode} matches' in done.stderr}"

    assert run() == f"{bytecode} as it was\n matches: True"
    (place / "m.py").write_text("print('as it is')\n")
    assert run() == "as it is\n matches: False"


def test_what_is_not_the_payload_has_no_source_and_no_documentation(tmp_path: Path) -> None:
    source, root = tmp_path / "m.py", tmp_path / "root"
    source.write_text('"""Words."""\nprint(__doc__)\n')
    copy_file(source, root, tmp_path / "to" / "m.py")
    [place] = (root / tmp_path.relative_to("/") / "to").iterdir()
    assert place.name == "m.pyc"
    done = subprocess.run([sys.executable, "-I", str(place)], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_a_module_of_numpy_that_is_only_documentation_is_empty(tmp_path: Path) -> None:
    source = tmp_path / "_add_newdocs.py"
    source.write_text("raise ValueError\n")
    target, root = tmp_path / "to" / source.name, tmp_path / "root"
    copy_file(source, root, target)
    argv = [sys.executable, "-I", str(root / target.with_suffix(".pyc").relative_to("/"))]
    assert subprocess.run(argv, check=False).returncode == 0
