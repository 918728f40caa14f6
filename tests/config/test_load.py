import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import enclave_payload.key_holder as payload
from enclavectl.config.choices import BackendChoice
from enclavectl.config.load import (
    SECTIONS,
    SETTINGS,
    Config,
    Profile,
    Source,
    SourceKind,
    config_path,
    load_config,
    parse_config,
)
from enclavectl.config.template import render_default
from enclavectl.errors import UsageError
from enclavectl.suggest import nearest, suggestion

PROJECT = Path(__file__).resolve().parents[2]
HOME = {"HOME": "/home/ada"}


def load(
    text: str | None,
    tmp_path: Path,
    *,
    environ: Mapping[str, str] = HOME,
    flags: Mapping[str, object] | None = None,
) -> Config:
    path = None
    if text is not None:
        path = tmp_path / "config.yaml"
        path.write_text(text)
    return load_config(path=path, environ=environ, flags=flags or {})


def defaults() -> Config:
    return load_config(path=None, environ=HOME, flags={})


def test_defaults_are_the_tutorials() -> None:
    config = defaults()
    assert config.backend is BackendChoice.AUTO
    assert config.state_dir == Path("/home/ada/.local/state/enclavectl")
    assert config.data_dir == Path("/home/ada/.local/share/enclavectl")
    assert (config.model, config.policy, config.file) == ("demo-lesion", None, None)
    assert dataclasses.astuple(config.diagnose) == (3, 30, 8)
    assert dataclasses.astuple(config.enclave) == (None, 8192, 4, None, 5005, 5006)
    assert dataclasses.astuple(config.local) == (4096, 3)
    assert dataclasses.astuple(config.nitro) == (None, None, None)
    assert config.profile is Profile.DEVELOPMENT
    assert set(config.sources.values()) == {Source(kind=SourceKind.DEFAULT)}
    assert list(config.sources) == [one.key for one in SETTINGS]


def test_the_default_ports_are_the_payloads() -> None:
    """Said twice: what starts the payload also loads all of it."""
    enclave = defaults().enclave
    assert (enclave.port_in, enclave.port_out) == (payload.PORT_IN, payload.PORT_OUT)


def test_every_field_of_every_section_is_a_setting() -> None:
    found = {field.name for field in dataclasses.fields(Config)}
    for section, kind in SECTIONS.items():
        found |= {f"{section}.{field.name}" for field in dataclasses.fields(kind)}
    assert found - {one.key for one in SETTINGS} == {*SECTIONS, "sources", "file"}


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    text = "diagnose:\n  top: 4\n  timeout_s: 40\n  in_flight: 4\n"
    environ = {**HOME, "ENCLAVECTL_DIAGNOSE_TOP": "5", "ENCLAVECTL_DIAGNOSE_TIMEOUT_S": "50"}
    config = load(text, tmp_path, environ=environ, flags={"diagnose.top": 6, "diagnose.timeout_s": None})
    assert dataclasses.astuple(config.diagnose) == (6, 50, 4)
    assert str(config.sources["diagnose.top"]) == "flag"
    assert str(config.sources["diagnose.timeout_s"]) == "environment ENCLAVECTL_DIAGNOSE_TIMEOUT_S"
    assert str(config.sources["diagnose.in_flight"]) == f"file {tmp_path}/config.yaml:4"
    assert str(config.sources["enclave.cid"]) == "default"


def test_paths_are_relative_to_the_file_and_know_the_home(tmp_path: Path) -> None:
    config = load("state_dir: state\ndata_dir: ~/models\npolicy: ../p.yaml\nmodel: ./m\n", tmp_path)
    assert config.state_dir == tmp_path / "state"
    assert config.data_dir == Path("/home/ada/models")
    assert config.policy == tmp_path / ".." / "p.yaml"
    assert config.model == str(tmp_path / "m")
    assert load("model: skin-lesion", tmp_path).model == "skin-lesion"
    assert load("policy: null", tmp_path).policy is None
    relative = load(None, tmp_path, flags={"model": "card.yaml", "state_dir": Path("here")})
    assert relative.model == str(Path.cwd() / "card.yaml")
    assert relative.state_dir == Path.cwd() / "here"


def test_xdg_folders_count_if_absolute() -> None:
    environ = {**HOME, "XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "relative", "XDG_CONFIG_HOME": "/c"}
    config = load_config(path=None, environ=environ, flags={})
    assert config.state_dir == Path("/s/enclavectl")
    assert config.data_dir == Path("/home/ada/.local/share/enclavectl")
    assert config_path(path=None, environ=environ) == Path("/c/enclavectl/config.yaml")
    assert config_path(path=None, environ={**environ, "ENCLAVECTL_CONFIG": "/x.yaml"}) == Path("/x.yaml")
    assert config_path(path=Path("/y.yaml"), environ={**environ, "ENCLAVECTL_CONFIG": "/x.yaml"}) == Path(
        "/y.yaml"
    )


def test_the_default_file_is_read_and_may_be_absent_but_a_named_one_may_not(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert load_config(path=None, environ=environ, flags={}).file is None
    default = tmp_path / ".config" / "enclavectl" / "config.yaml"
    default.parent.mkdir(parents=True)
    default.write_text("backend: qemu")
    config = load_config(path=None, environ=environ, flags={})
    assert (config.backend, config.file) == (BackendChoice.QEMU, default)
    default.unlink()
    default.symlink_to(tmp_path / "nowhere")
    for path, more in [
        (None, {}),
        (tmp_path / "no.yaml", {}),
        (None, {"ENCLAVECTL_CONFIG": "/no/such.yaml"}),
    ]:
        with pytest.raises(UsageError, match="no such configuration file"):
            load_config(path=path, environ={**environ, **more}, flags={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backnd: local", r"config.yaml:1: unknown key 'backnd'; the nearest known one is 'backend'"),
        ("backend: local\ndiagnose:\n  topp: 3", r":3: unknown key 'diagnose.topp'; .* 'top'"),
        ("\ntop: 3", r":2: unknown key 'top'; known: backend, data_dir, diagnose"),
        ("diagnose:\n  top: '3'", r":2: diagnose.top: expected a whole number from 1 to 64, found '3'"),
        ("diagnose: {top: true}", r":1: diagnose.top: expected a whole number from 1 to 64, found True"),
        ("diagnose: {top: 3.0}", r"found 3.0"),
        ("diagnose: {top: 0}", r"found 0"),
        ("diagnose: {top: 65}", r"found 65"),
        ("diagnose: {top: null}", r"found nothing"),
        ("diagnose: {top: [3]}", r"found \[3\]"),
        ("diagnose: 3", r":1: diagnose: expected keys and values, found 3"),
        ("- backend", r":1: the file: expected keys and values"),
        ("backend: nitor", r":1: backend: expected one of auto, nitro, qemu, local, found 'nitor'"),
        ("backend:", r"backend: expected one of .*, found nothing"),
        ("state_dir: 3", r"state_dir: expected a path, found 3"),
        ("state_dir: ''", r"state_dir: expected a path, found ''"),
        ("model: ''", r"model: expected an id, or the path of a model card"),
        ("enclave: {cid: 3}", r"from 4 to 4294967294, found 3"),
        ("backend: local\nbackend: qemu", r":2: key 'backend' is given twice, first on line 1"),
        ("diagnose:\n  top: 3\n  top: 4", r":3: key 'top' is given twice, first on line 2"),
        ("backend: &a local", r":1: anchors and aliases are not accepted"),
        ("backend: *a", r":1: anchors and aliases are not accepted"),
        ("backend: !!str local", r":1: tags are not accepted"),
        ("backend: [", r":1: .*expected the node content"),
        ("backend: local\n---\nbackend: qemu", r":2: expected a single document"),
        ("1: 2", r":1: expected a text key"),
        ("[" * 5000, r":1: expected at most 16 levels, found more"),
        ('model: "\\0"', r":1: expected text without control characters, found U\+0000"),
        ('model: "\\ud800"', r":1: expected text without control characters, found U\+D800"),
        ('model: "\\UFFFFFFFF"', r":1: cannot be read as YAML"),
        ("#" * (256 * 1024 + 1), r"at most 262144 bytes, found more"),
    ],
)
def test_what_a_file_may_not_say(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(text, tmp_path)
    assert str(tmp_path / "config.yaml") in caught.value.message
    assert len(caught.value.message) < 500


def test_a_file_that_is_not_text_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"c.yaml:2: expected UTF-8 text, found byte 0xff"):
        parse_config(b"a: 1\n\xff", tmp_path / "c.yaml", environ=HOME)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ENCLAVECTL_BACKEN",
            "x",
            "unknown environment variable 'ENCLAVECTL_BACKEN'; .*'ENCLAVECTL_BACKEND'",
        ),
        ("ENCLAVECTL_TOP", "3", "unknown environment variable"),
        (
            "ENCLAVECTL_DIAGNOSE_TOP",
            "three",
            "variable ENCLAVECTL_DIAGNOSE_TOP: expected a whole .*, found 'three'",
        ),
        ("ENCLAVECTL_DIAGNOSE_TOP", "٣", "found '٣'"),
        ("ENCLAVECTL_DIAGNOSE_TOP", "9" * 5000, "found '999.*\\.\\.\\."),
        ("ENCLAVECTL_BACKEND", "LOCAL", "expected one of"),
        ("ENCLAVECTL_STATE_DIR", "a\0b", "expected a path"),
    ],
)
def test_what_a_variable_may_not_say(variable: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(path=None, environ={**HOME, variable: value}, flags={})


def test_empty_and_test_variables_do_not_count() -> None:
    environ = {**HOME, "ENCLAVECTL_BACKEND": "", "ENCLAVECTL_CONFIG": "", "ENCLAVECTL_TEST_ANYTHING": "x"}
    assert load_config(path=None, environ=environ, flags={}) == defaults()


def test_a_flag_out_of_bounds_is_named_as_the_user_typed_it() -> None:
    names = {"diagnose.top": "--top"}
    with pytest.raises(UsageError, match=r"^--top: expected a whole number from 1 to 64, found 100$"):
        load_config(path=None, environ=HOME, flags={"diagnose.top": 100}, flag_names=names)


def test_the_default_file_in_configs_is_the_rendered_one() -> None:
    assert (PROJECT / "configs" / "enclavectl.yaml").read_text() == render_default()


def test_the_default_file_changes_nothing_until_a_line_is_uncommented(tmp_path: Path) -> None:
    config = load(render_default(), tmp_path)
    assert dataclasses.replace(config, file=None) == defaults()
    config = load(re.sub(r"#: ", "", render_default()), tmp_path)
    assert {source.kind for source in config.sources.values()} == {SourceKind.FILE}
    assert dataclasses.replace(config, sources=defaults().sources, file=None) == defaults()


def test_config_show_has_value_and_source(tmp_path: Path) -> None:
    config = load("model: other\n", tmp_path)
    rows = {key: (value, source) for key, value, source in config.rows()}
    assert rows["model"] == ("other", f"file {tmp_path}/config.yaml:1")
    assert rows["policy"] == ("null", "default")
    shown = json.loads(json.dumps(config.to_json()))
    assert shown["schema"] == "enclavectl.config/1"
    assert shown["file"] == str(tmp_path / "config.yaml")
    assert shown["settings"]["enclave.cpus"] == {"value": 4, "source": "default"}
    assert list(shown["settings"]) == list(rows) == [one.key for one in SETTINGS]


def test_yaml_is_not_imported_without_a_file() -> None:
    code = (
        "import sys\nfrom enclavectl.config.load import load_config\n"
        "load_config(path=None, environ={'HOME': '/nonexistent'}, flags={})\n"
        "assert not {'yaml', 'enclavectl.yaml_file', 'difflib', 'tempfile'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@given(top=st.integers(1, 64), timeout_s=st.integers(1, 3600), backend=st.sampled_from(BackendChoice))
def test_what_is_written_is_read(top: int, timeout_s: int, backend: BackendChoice) -> None:
    text = f"backend: {backend}\ndiagnose: {{top: {top}, timeout_s: {timeout_s}}}\n"
    found = {key: value for key, (value, _) in parse_config(text.encode(), Path("/c"), environ=HOME).items()}
    assert found == {"backend": backend, "diagnose.top": top, "diagnose.timeout_s": timeout_s}


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_settings_or_a_usage_error(data: bytes) -> None:
    try:
        found = parse_config(data, Path("/c"), environ=HOME)
    except UsageError:
        return
    assert set(found) <= {one.key for one in SETTINGS}


def test_nearest() -> None:
    assert nearest("memory_mb", ["memory_mib", "cpus"]) == "memory_mib"
    assert nearest("Backend", ["backend"]) == "backend"
    assert nearest("zzz", ["backend"]) is None
    assert nearest("x" * 1_000_000, ["backend"]) is None
    assert suggestion("zzz", ["b", "a"]) == "known: a, b"
    assert suggestion("zzz", []) == "none is known"


def run_as_a_stranger(environ: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    """Python code as a user without a passwd entry, as Kubernetes and OpenShift choose them."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", **environ},
        cwd="/",
        user=12_345,
        group=12_345,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )


def may_be_a_stranger() -> bool:
    """Whether such a user could run this interpreter and read these sources."""
    try:
        return os.getuid() == 0 and run_as_a_stranger({}, "import enclavectl.config.load").returncode == 0
    except PermissionError:
        return False


STRANGER = pytest.mark.skipif(
    not may_be_a_stranger(), reason="becoming another user needs root, and sources that others may read"
)
LOAD = (
    "import os\n"
    "from enclavectl.config.load import load_config\n"
    "from enclavectl.errors import UsageError\n"
    "try:\n"
    "    config = load_config(path=None, environ=os.environ, flags={})\n"
    "    print(config.state_dir, config.data_dir, config.file)\n"
    "except UsageError as exc:\n"
    "    print(exc.message, '|', exc.hint)\n"
)


@STRANGER
def test_a_random_user_without_a_home_sets_one_variable() -> None:
    assert run_as_a_stranger({}, LOAD).stdout == (
        "state_dir: no default (this user has no home folder) "
        "| set ENCLAVECTL_STATE_DIR to a folder of your own\n"
    )
    said = run_as_a_stranger({"ENCLAVECTL_STATE_DIR": "/tmp/mine"}, LOAD).stdout
    assert said == "/tmp/mine /tmp/mine/data None\n"


@STRANGER
def test_a_random_user_whose_home_is_the_root_is_told_of_the_variable() -> None:
    code = (
        "from pathlib import Path\n"
        "from enclavectl.errors import HostError\n"
        "from enclavectl.files import make_private_dir\n"
        "try:\n"
        "    make_private_dir(Path('/.local/state/enclavectl/local'))\n"
        "except HostError as exc:\n"
        "    print(exc.message, '|', exc.hint)\n"
    )
    said = run_as_a_stranger({"HOME": "/"}, code).stdout
    assert said.startswith("/.local/state/enclavectl/local: cannot make this folder")
    assert "set ENCLAVECTL_STATE_DIR to a folder of your own" in said


def test_the_device_plugins_count_of_cpus_is_a_setting_and_ours_goes_before_it() -> None:
    plugin = {"HOME": "/home/u", "NITRO_ENCLAVES_CPUS": "6"}
    config = load_config(path=None, environ=plugin, flags={})
    assert (config.enclave.cpus, str(config.sources["enclave.cpus"])) == (
        6,
        "environment NITRO_ENCLAVES_CPUS",
    )
    ours = load_config(path=None, environ={**plugin, "ENCLAVECTL_ENCLAVE_CPUS": "2"}, flags={})
    assert ours.enclave.cpus == 2
    with pytest.raises(UsageError, match="NITRO_ENCLAVES_CPUS"):
        load_config(path=None, environ={**plugin, "NITRO_ENCLAVES_CPUS": "many"}, flags={})
