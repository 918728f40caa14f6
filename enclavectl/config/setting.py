"""The declaration of a configuration field: its kind of value, its default, its line of explanation.

``enclavectl.config.load`` declares the fields with ``setting``. The file's reader, the environment, ``config
show`` and the default file are derived from those declarations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from enclavectl.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from enclavectl.json_object import JsonValue

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=StrEnum)

# Variables of others that are settings. AWS's device plugin for Kubernetes says in this one how many vCPUs a
# container may give to an enclave.
FOREIGN_VARIABLES = {"NITRO_ENCLAVES_CPUS": "enclave.cpus"}
_METADATA_KEY = "enclavectl.setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathContext:
    """The context in which a path is resolved: ``base`` for relative ones, ``environ`` for ``~``."""

    base: Path | None
    environ: Mapping[str, str]

    def home(self) -> Path:
        """Find the user's home folder: HOME, else the password database's.

        Raises:
            ValueError: there is neither.
        """
        if home := self.environ.get("HOME"):
            return Path(home)
        import pwd

        try:
            return Path(pwd.getpwuid(os.getuid()).pw_dir)
        except KeyError:
            raise ValueError("this user has no home folder") from None

    def absolute(self, text: str) -> Path:
        """Make ``text`` an absolute path; resolve ``~`` and relative paths, but not links and ``..``.

        Raises:
            ValueError: empty, a NUL in it, or relative while the current folder is gone.
        """
        if not text or "\0" in text:
            raise ValueError(f"expected a path, found {text!r}")
        if text == "~" or text.startswith("~/"):
            return self.home() / text[2:]
        try:
            return (self.base or Path.cwd()) / text
        except OSError:
            raise ValueError(
                f"expected an absolute path, because the current folder is gone; found {text!r}"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T_co]):
    """A kind of value: ``expected`` says which are accepted, ``read`` checks one.

    ``read`` takes the value of a YAML file or flag and raises ValueError("expected ..., found ...").
    ``decode`` turns the text of an environment variable into such a value, and never fails. ``schema`` says
    the same as ``expected`` in JSON Schema, for editors.
    """

    expected: str
    read: Callable[[object, PathContext], T_co]
    schema: Mapping[str, JsonValue]
    decode: Callable[[str], object] = str


def whole(low: int, high: int) -> Kind[int]:
    """Make the kind of whole numbers from ``low`` to ``high``."""
    expected = f"a whole number from {low} to {high}"

    def read(value: object, _around: PathContext) -> int:
        # type() and not isinstance: bool is a subclass of int, and `top: true` must not mean 1.
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"expected {expected}, found {shown(value)}")
        return value

    def decode(text: str) -> object:
        return int(text) if re.fullmatch(r"[-+]?[0-9]{1,18}", text) else text

    schema: Mapping[str, JsonValue] = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(expected=expected, read=read, schema=schema, decode=decode)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Make the kind of values of ``kind`` or null."""
    expected = f"{kind.expected}, or null"

    def read(value: object, around: PathContext) -> T | None:
        return None if value is None else kind.read(value, around)

    def decode(text: str) -> object:
        return None if text == "null" else kind.decode(text)

    schema: Mapping[str, JsonValue] = {"anyOf": [dict(kind.schema), {"type": "null"}]}
    return Kind(expected=expected, read=read, schema=schema, decode=decode)


def one_of(members: type[E]) -> Kind[E]:
    """Make the kind of an enumeration's members, by value."""
    expected = "one of " + ", ".join(members)

    def read(value: object, _around: PathContext) -> E:
        for member in members:
            if value == member.value:
                return member
        raise ValueError(f"expected {expected}, found {shown(value)}")

    return Kind(expected=expected, read=read, schema={"enum": [member.value for member in members]})


def _read_path(value: object, around: PathContext) -> Path:
    if isinstance(value, str | Path):
        return around.absolute(str(value))
    raise ValueError(f"expected a path, found {shown(value)}")


def _read_optional_path(value: object, around: PathContext) -> Path | None:
    return None if value is None else _read_path(value, around)


def _read_reference(value: object, around: PathContext) -> str:
    if isinstance(value, str | Path) and str(value):
        return str(around.absolute(str(value))) if is_path(value) else str(value)
    raise ValueError(f"expected {REFERENCE.expected}, found {shown(value)}")


_TEXT: Mapping[str, JsonValue] = {"type": "string", "minLength": 1}
PATH = Kind(expected="a path", read=_read_path, schema=_TEXT)
OPTIONAL_PATH = Kind(
    expected="a path, or null", read=_read_optional_path, schema={**_TEXT, "type": ["string", "null"]}
)
REFERENCE = Kind(
    expected="an id, or the path of a model card or its folder", read=_read_reference, schema=_TEXT
)


def is_path(reference: str | Path) -> bool:
    """Return whether a reference is a path rather than the id of an installed model."""
    return isinstance(reference, Path) or "/" in reference or reference.endswith((".yaml", ".yml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One configuration field. ``default`` is a value, or a function if it depends on the user's folders."""

    key: str
    kind: Kind[object]
    default: object | Callable[[PathContext], object]
    default_text: str
    about: str

    @property
    def variable(self) -> str:
        """The environment variable: ENCLAVECTL_ and the key, such as ENCLAVECTL_DIAGNOSE_TOP."""
        return "ENCLAVECTL_" + self.key.upper().replace(".", "_")

    def resolve_default(self, around: PathContext) -> object:
        """Compute the default on this machine.

        Raises:
            UsageError: it needs a home folder, and the user has none.
        """
        try:
            return self.default(around) if callable(self.default) else self.default
        except ValueError as exc:
            raise UsageError(
                f"{self.key}: no default ({exc})", hint=f"set {self.variable} to a folder of your own"
            ) from exc


def setting(
    kind: Kind[T], default: T | Callable[[PathContext], T], about: str, *, default_text: str | None = None
) -> T:
    """Make a dataclass field that is a setting: the default of an annotated name in the class.

    ``default_text`` is the default as YAML, if ``default`` is a function. The field stays required in the
    class: only the loader makes instances, because every value needs a source.
    """
    text = default_text or ("null" if default is None else str(default))
    one = Setting(key="", kind=kind, default=default, default_text=text, about=about)
    found: T = field(metadata={_METADATA_KEY: one})
    return found


def settings_of(config: type[DataclassInstance], *, section: str = "") -> tuple[Setting, ...]:
    """List the settings that a dataclass declares, in order, keys prefixed with ``section`` and a dot."""
    prefix = f"{section}." if section else ""
    return tuple(
        replace(one.metadata[_METADATA_KEY], key=prefix + one.name)
        for one in fields(config)
        if _METADATA_KEY in one.metadata
    )


def shown(value: object) -> str:
    """Render a found value for a message: short, and on one line."""
    if value is None:
        return "nothing"
    text = str(value) if isinstance(value, Path) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
