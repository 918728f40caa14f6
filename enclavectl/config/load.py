"""The configuration: flag before environment before file before default; every value has its source.

A new field is one ``setting`` line here. The file's reader, the environment variable, ``config show`` and the
default file (configs/enclavectl.yaml; a test compares them) are derived from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from enclavectl.config.choices import BackendChoice
from enclavectl.config.folders import default_data_dir, default_state_dir, xdg_folder
from enclavectl.config.gateway import GatewayConfig
from enclavectl.config.sections import DiagnoseConfig, EnclaveConfig, LocalConfig, NitroConfig, QemuConfig
from enclavectl.config.setting import (
    FOREIGN_VARIABLES,
    OPTIONAL_PATH,
    PATH,
    REFERENCE,
    PathContext,
    Setting,
    one_of,
    setting,
    settings_of,
    shown,
)
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded, status_at
from enclavectl.suggest import suggestion

if TYPE_CHECKING:
    from enclavectl.yaml_file import Node

MAX_CONFIG_BYTES = 256 * 1024  # the default file, with every comment, has a few KiB
CONFIG_SCHEMA = "enclavectl.config/1"
# Variables with the prefix of settings that are no settings. TEST_PREFIX is for the project's tests and CI.
CONFIG_VARIABLE = "ENCLAVECTL_CONFIG"
TEST_PREFIX = "ENCLAVECTL_TEST_"


class Profile(StrEnum):
    """The purpose of this host."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class SourceKind(StrEnum):
    """The kind of a value's source, weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source of a value; ``where`` is "path:line", the variable's name, or empty."""

    kind: SourceKind
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}".rstrip()

    @property
    def is_default(self) -> bool:
        """True if nobody chose the value."""
        return self.kind is SourceKind.DEFAULT

    def begins(self, key: str, *, flag: str) -> str:
        """Return the beginning of a message about the value of ``key``, as the loader's own messages have it.

        ``flag`` is the option that sets it.
        """
        if self.kind is SourceKind.FLAG:
            return flag
        if self.kind is SourceKind.ENVIRONMENT:
            return f"environment variable {self.where}"
        return f"{self.where}: {key}" if self.where else key


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, checked; ``sources`` has one entry per key; ``file`` is the file read, if any."""

    backend: BackendChoice = setting(one_of(BackendChoice), BackendChoice.AUTO, "What runs the enclave.")
    profile: Profile = setting(
        one_of(Profile),
        Profile.DEVELOPMENT,
        "What this host is for; production refuses debug mode, which turns attestation off.",
    )
    state_dir: Path = setting(
        PATH,
        default_state_dir,
        "Private folder with what this host built and runs; the default follows XDG_STATE_HOME.",
        default_text="~/.local/state/enclavectl",
    )
    data_dir: Path = setting(
        PATH,
        default_data_dir,
        "Folder with the models that were fetched; the default follows XDG_DATA_HOME.",
        default_text="~/.local/share/enclavectl",
    )
    model: str = setting(REFERENCE, "demo-lesion", "The model that classifies the pictures.")
    policy: Path | None = setting(
        OPTIONAL_PATH, None, "Policy file that an enclave must satisfy; null for the default of the backend."
    )
    diagnose: DiagnoseConfig
    enclave: EnclaveConfig
    nitro: NitroConfig
    qemu: QemuConfig
    local: LocalConfig
    gateway: GatewayConfig
    sources: Mapping[str, Source]
    file: Path | None

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield key, value and source of every setting as text, in the order of the file."""
        for key, value in self._values():
            yield key, "null" if value is None else str(value), str(self.sources[key])

    def to_json(self) -> dict[str, object]:
        """Return the object that ``config show --output json`` prints."""
        return {
            "schema": CONFIG_SCHEMA,
            "file": None if self.file is None else str(self.file),
            "settings": {
                key: {
                    "value": str(value) if isinstance(value, Path) else value,
                    "source": str(self.sources[key]),
                }
                for key, value in self._values()
            },
        }

    def _values(self) -> Iterator[tuple[str, object]]:
        for one in SETTINGS:
            section, _, name = one.key.rpartition(".")
            yield one.key, getattr(getattr(self, section) if section else self, name)


SECTIONS = {
    "diagnose": DiagnoseConfig,
    "enclave": EnclaveConfig,
    "nitro": NitroConfig,
    "qemu": QemuConfig,
    "local": LocalConfig,
    "gateway": GatewayConfig,
}
SETTINGS: tuple[Setting, ...] = (
    *settings_of(Config),
    *(one for name, section in SECTIONS.items() for one in settings_of(section, section=name)),
)
_BY_KEY = {one.key: one for one in SETTINGS}
_BY_VARIABLE = {one.variable: one for one in SETTINGS}

_Found = dict[str, tuple[object, Source]]


def config_path(*, path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the path of the configuration file: ``path``, $ENCLAVECTL_CONFIG or the user's default.

    Raises:
        UsageError: the user has no home folder, so there is no default.
    """
    around = PathContext(base=None, environ=environ)
    try:
        if named := path or environ.get(CONFIG_VARIABLE):
            return around.absolute(str(named))
        return xdg_folder("XDG_CONFIG_HOME", ".config", around) / "config.yaml"
    except ValueError as exc:
        raise UsageError(f"configuration file: {exc}", hint=f"set {CONFIG_VARIABLE}") from exc


def load_config(
    *,
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    flag_names: Mapping[str, str] | None = None,
) -> Config:
    """Load and check the configuration of this invocation.

    ``path`` and the file that ENCLAVECTL_CONFIG names must exist; the default file may be absent. ``flags``
    has values by key ("diagnose.top"), None for an absent flag; errors name flags by ``flag_names``
    ("--top"). An empty variable counts as not set.

    Raises:
        UsageError: an unknown key or variable, or a value of the wrong type or out of bounds; the message has
            the value's place.
    """
    found: _Found = {one.key: (one, Source(kind=SourceKind.DEFAULT)) for one in SETTINGS}
    file = _file_to_read(path, environ)
    if file is not None:
        found |= parse_config(
            read_bounded(
                file,
                MAX_CONFIG_BYTES,
                what="configuration file",
                hint_if_missing="enclavectl config init writes one",
            ),
            file,
            environ=environ,
        )
    found |= _from_environment(environ)
    found |= _from_flags(flags, flag_names or {}, environ)
    return _assemble(found, file, PathContext(base=None, environ=environ))


def _file_to_read(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file, or None if it is the user's default file and absent."""
    if path or environ.get(CONFIG_VARIABLE):
        return config_path(path=path, environ=environ)
    try:
        file = config_path(path=None, environ=environ)
    except UsageError:
        return None  # a user without a home has no such file
    # A dangling link is an error, not absence.
    return None if status_at(file, follows_links=False) is None else file


def parse_config(data: bytes, file: Path, *, environ: Mapping[str, str]) -> dict[str, tuple[object, Source]]:
    """Read the settings in the bytes of a configuration file, checked, by key. No other file is read.

    Relative paths are resolved against the folder of ``file``.

    Raises:
        UsageError: not the YAML of a configuration; the message begins with ``file:line``.
    """
    # Imported here: PyYAML takes longer than the rest of this module, and most users have no file.
    from enclavectl.yaml_file import parse_yaml, refuse_unknown

    if len(data) > MAX_CONFIG_BYTES:
        raise UsageError(
            f"{file}: expected a configuration file of at most {MAX_CONFIG_BYTES} bytes, found more"
        )
    name = str(file)
    around = PathContext(base=file.parent, environ=environ)
    top = _mapping(parse_yaml(data, name=name), "the file", name)
    refuse_unknown(top, {key.partition(".")[0] for key in _BY_KEY}, name=name)
    nodes = {key: node for key, node in top.items() if key not in SECTIONS}
    for section in SECTIONS:
        if section in top:
            inner = _mapping(top[section], section, name)
            known = {key.partition(".")[2] for key in _BY_KEY if key.startswith(f"{section}.")}
            refuse_unknown(inner, known, name=name, where=section)
            nodes |= {f"{section}.{key}": node for key, node in inner.items()}
    found: _Found = {}
    for key, node in nodes.items():
        where = f"{name}:{node.line}"
        try:
            value = _BY_KEY[key].kind.read(node.to_plain(), around)
        except ValueError as exc:
            raise UsageError(f"{where}: {key}: {exc}") from exc
        found[key] = (value, Source(kind=SourceKind.FILE, where=where))
    return found


def _mapping(node: Node, what: str, name: str) -> dict[str, Node]:
    if node.value is None:  # an empty file, or a section with all lines commented out
        return {}
    if not isinstance(node.value, dict):
        raise UsageError(
            f"{name}:{node.line}: {what}: expected keys and values, found {shown(node.to_plain())}"
        )
    return node.value


def _from_environment(environ: Mapping[str, str]) -> _Found:
    around = PathContext(base=None, environ=environ)
    found: _Found = {}
    ours = sorted(name for name in environ if name.startswith("ENCLAVECTL_"))
    for variable in (*(FOREIGN_VARIABLES.keys() & environ.keys()), *ours):  # where both are set, ours counts
        if variable == CONFIG_VARIABLE or variable.startswith(TEST_PREFIX):
            continue
        one = _BY_VARIABLE.get(variable) or _BY_KEY.get(FOREIGN_VARIABLES.get(variable, ""))
        if one is None:
            near = suggestion(variable, [*_BY_VARIABLE, CONFIG_VARIABLE])
            raise UsageError(
                f"unknown environment variable {shown(variable)}; {near}", hint=f"unset {variable}"
            )
        if text := environ[variable]:
            try:
                value = one.kind.read(one.kind.decode(text), around)
            except ValueError as exc:
                raise UsageError(f"environment variable {variable}: {exc}") from exc
            found[one.key] = (value, Source(kind=SourceKind.ENVIRONMENT, where=variable))
    return found


def _from_flags(flags: Mapping[str, object], names: Mapping[str, str], environ: Mapping[str, str]) -> _Found:
    around = PathContext(base=None, environ=environ)
    found: _Found = {}
    for key, given in flags.items():
        if given is not None:
            try:
                value = _BY_KEY[key].kind.read(given, around)  # a KeyError is a bug in the caller
            except ValueError as exc:
                raise UsageError(f"{names.get(key, key)}: {exc}") from exc
            found[key] = (value, Source(kind=SourceKind.FLAG))
    return found


def _assemble(found: _Found, file: Path | None, around: PathContext) -> Config:
    values = {
        # Defaults are resolved last: one that needs a home folder must not fail if the user named a folder.
        key: value.resolve_default(around) if isinstance(value, Setting) else value
        for key, (value, _) in found.items()
    }
    return Config(
        **{key: value for key, value in values.items() if "." not in key},  # type: ignore[arg-type]  # read() has checked each value
        **{
            name: section(
                **{key.removeprefix(f"{name}."): values[key] for key in values if key.startswith(f"{name}.")}
            )
            for name, section in SECTIONS.items()
        },
        sources=MappingProxyType({key: source for key, (_, source) in found.items()}),
        file=file,
    )
