"""Checks of manifests that a schema cannot make, and that a cluster makes late or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from enclavectl.deploy.kubernetes.pod import NODE_LABEL, RELEASE_LABEL, SLOT, SLOT_CPUS
from enclavectl.errors import HostError, UsageError
from enclavectl.files import read_bounded
from enclavectl.yaml_file import parse_yaml

Object = Mapping[str, object]
_MAX_FILE = 1 << 20
_MAX_FILES = 200
_QUANTITY = re.compile(r"([0-9]{1,12})(Ki|Mi|Gi|Ti|)", re.ASCII)
_BYTES = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_PAGES = re.compile(r"hugepages-([0-9]+[KMGT]i)", re.ASCII)
_SLOTS = 4
_FORMS = {
    "apiVersion": re.compile(r"(?:[a-z0-9][a-z0-9.-]{0,252}/)?v[a-z0-9]{1,62}", re.ASCII),
    "kind": re.compile(r"[A-Z][A-Za-z0-9]{0,62}", re.ASCII),
}
SCHEMA_VERSION = "1.36"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong in a file. ``code`` is stable; ``fix`` says what to write."""

    file: str
    code: str
    message: str
    fix: str

    def to_json(self) -> dict[str, object]:
        """Return the finding as JSON values."""
        return {"file": self.file, "code": self.code, "message": self.message, "fix": self.fix}


def read_manifests(folder: Path) -> dict[str, Object]:
    """Read each manifest of a folder, by the name of its file; one document a file.

    Raises:
        UsageError: the folder cannot be read, or a file is no YAML of one object.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError as exc:
        raise UsageError(
            f"{folder}: cannot read this folder ({exc.strerror})", hint="enclavectl fleet render makes one"
        ) from exc
    if not names or len(names) > _MAX_FILES:
        raise UsageError(
            f"{folder}: expected 1 to {_MAX_FILES} manifests, found {len(names)}",
            hint="enclavectl fleet render writes them",
        )
    found: dict[str, Object] = {}
    for name in names:
        plain = parse_yaml(
            read_bounded(folder / name, _MAX_FILE, what="manifest"), name=str(folder / name)
        ).to_plain()
        found[name] = _manifest(plain, folder / name)
    return found


def _manifest(plain: object, path: Path) -> Object:
    """Return the object of a file, whose version and kind have the form that Kubernetes gives them."""
    value = _object(plain)
    for key, form in _FORMS.items():
        text = value.get(key)
        if not isinstance(text, str) or form.fullmatch(text) is None:
            raise UsageError(
                f"{path}: expected one object with {' and '.join(_FORMS)}, found {key} {text!r:.100}",
                hint="one manifest a file, as enclavectl fleet render writes them",
            )
    return value


def check_manifests(manifests: Mapping[str, Object], labels: Sequence[frozenset[str]] = ()) -> list[Finding]:
    """Return what is wrong. ``labels`` are those of each lock that the manifests must be of, if any."""
    found: list[Finding] = []
    for name, value in manifests.items():
        found += _pods(name, _object(_at(value, "spec", "template")))
        if value["kind"] == "Deployment":
            found += _rollout(name, value)
    found += _releases(manifests, labels)
    return found


def check_schemas(manifests: Mapping[str, Object]) -> list[Finding]:
    """Hold each object to Kubernetes' own schema, strictly: an unknown field is an error.

    Raises:
        HostError: the library for it is not installed.
    """
    try:
        import kubernetes_validate  # noqa: PLC0415 - an extra, which takes half a second to load
    except ImportError as exc:
        raise HostError(
            "the schemas of Kubernetes are not installed",
            hint="pip install 'enclavectl[fleet]'; --no-schemas leaves them out",
            code="no-schemas",
        ) from exc
    found = []
    for name, value in manifests.items():
        if value["kind"] == "Kustomization":
            continue
        try:
            kubernetes_validate.validate(dict(value), SCHEMA_VERSION, strict=True)
        except kubernetes_validate.ValidationError as exc:
            where = ".".join(str(step) for step in exc.path)
            found.append(
                Finding(file=name, code="schema", message=f"{where}: {exc.message}", fix="correct it")
            )
        except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError):
            what = f"Kubernetes {SCHEMA_VERSION} has no {value['apiVersion']} {value['kind']}"
            found.append(Finding(file=name, code="schema", message=what, fix="correct it, or --no-schemas"))
    return found


def _pods(name: str, template: Object) -> Iterator[Finding]:
    spec = _object(template.get("spec"))
    containers = [*_list(spec, "initContainers"), *_list(spec, "containers")]
    asking = [one for one in containers if SLOT in _limits(one)]
    if not asking:
        return
    if len(asking) > 1:
        yield Finding(
            file=name,
            code="two-enclaves",
            message=f"{len(asking)} containers of a pod ask for {SLOT}",
            fix="one enclave a pod: the kubelet limits huge pages of pods, not of containers",
        )
    for one in asking:
        yield from _container(name, one)
    if NODE_LABEL not in _object(spec.get("nodeSelector")):
        yield Finding(
            file=name,
            code="node-selector",
            message="its nodes are not selected",
            fix=f"nodeSelector {NODE_LABEL}: enabled: AWS's plugin runs on such nodes only",
        )
    profile = _at(spec, "securityContext", "seccompProfile", "type")
    if profile == "RuntimeDefault":
        yield Finding(
            file=name,
            code="seccomp-default",
            message="seccompProfile RuntimeDefault refuses sockets of AF_VSOCK",
            fix="a Localhost profile that allows them, or none",
        )


def _container(name: str, container: Object) -> Iterator[Finding]:
    limits, requests = _limits(container), _object(_at(container, "resources", "requests"))
    who = f"container {container.get('name')}"
    pages = {key: str(value) for key, value in limits.items() if _PAGES.fullmatch(key)}
    if len(pages) != 1:
        yield Finding(
            file=name,
            code="hugepages",
            message=f"{who}: expected huge pages of one size in limits, found {sorted(pages) or 'none'}",
            fix="hugepages-1Gi, as the allocator makes them from 1,024 MiB on",
        )
    for key, value in pages.items():
        size = _PAGES.fullmatch(key)
        page, asked = _bytes(size[1] if size else ""), _bytes(value)
        if not asked or not page or asked % page:
            yield Finding(
                file=name,
                code="hugepages-multiple",
                message=f"{who}: {key}: {value} is no number of whole pages",
                fix=f"a multiple of {key.removeprefix('hugepages-')}",
            )
        if key in requests and _bytes(str(requests[key])) != asked:
            yield Finding(
                file=name,
                code="hugepages-request",
                message=f"{who}: {key}: the request {requests[key]} is not the limit {value}",
                fix="the same in both: huge pages are never shared out twice",
            )
    if not {"cpu", "memory"} & {*limits, *requests}:
        yield Finding(
            file=name,
            code="hugepages-alone",
            message=f"{who}: huge pages without cpu or memory",
            fix="ask for ordinary memory as well: the image's size and 256 Mi",
        )
    for key in (SLOT, SLOT_CPUS):
        count = str(limits.get(key, "1"))
        if not count.isdigit() or (key in requests and str(requests[key]) != count):
            yield Finding(
                file=name,
                code="device-count",
                message=f"{who}: {key}: expected a whole number, the same in requests and limits",
                fix=f'{key}: "1"' if key == SLOT else f'{key}: "2"',
            )
    arguments = container.get("args")
    if isinstance(arguments, list) and "--debug" in arguments:
        yield Finding(
            file=name,
            code="debug-mode",
            message=f"{who}: --debug: nothing proves its code, and clients refuse it",
            fix="enclavectl fleet render with the lock of an image, without --unsafe-debug",
        )
    if str(limits[SLOT]) != "1":
        yield Finding(
            file=name,
            code="enclaves-per-pod",
            message=f"{who}: {limits[SLOT]} slots for one enclave",
            fix=f'{SLOT}: "1"; replicas give more enclaves',
        )


def _rollout(name: str, value: Object) -> Iterator[Finding]:
    surge = _at(value, "spec", "strategy", "rollingUpdate", "maxSurge")
    if surge not in (0, "0", "0%"):
        yield Finding(
            file=name,
            code="max-surge",
            message="a rollout may start pods beyond the replicas, which need free slots",
            fix=f"strategy.rollingUpdate maxSurge: 0, maxUnavailable: 1; a node has {_SLOTS} slots",
        )
    selected = _at(value, "spec", "selector", "matchLabels", RELEASE_LABEL)
    labeled = _at(value, "spec", "template", "metadata", "labels", RELEASE_LABEL)
    if selected != labeled or labeled is None:
        yield Finding(
            file=name,
            code="release-label",
            message=f"label {RELEASE_LABEL}: the selector has {selected}, the pods have {labeled}",
            fix="the release's label in both, so that clients that pin it are led to it",
        )


def _releases(manifests: Mapping[str, Object], labels: Sequence[frozenset[str]]) -> Iterator[Finding]:
    there = {
        name: str(_at(value, "spec", "template", "metadata", "labels", RELEASE_LABEL))
        for name, value in manifests.items()
        if value["kind"] == "Deployment"
    }
    if not labels:
        return
    known = [label for one in labels for label in sorted(one)]
    for name, label in there.items():
        if label not in known:
            yield Finding(
                file=name,
                code="release-of-no-lock",
                message=f"its pods are labeled {label}, and the locks are of {', '.join(known)}",
                fix="enclavectl fleet render with that lock",
            )
    for one in labels:
        if one.isdisjoint(there.values()):
            yield Finding(
                file="kustomization.yaml",
                code="lock-without-release",
                message=f"no Deployment is labeled {' or '.join(sorted(one))}, which a lock is of",
                fix="enclavectl fleet render with that lock",
            )


def _limits(container: Object) -> Object:
    return _object(_at(container, "resources", "limits"))


def _object(value: object) -> Object:
    """Return a mapping as it is, and no members of anything else: the schemas say what that should be."""
    return cast("Object", value) if isinstance(value, dict) else {}


def _list(value: Object, key: str) -> list[Object]:
    found = value.get(key)
    return [cast("Object", one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _at(value: object, *path: str) -> object:
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _bytes(text: str) -> int | None:
    match = _QUANTITY.fullmatch(text)
    return None if match is None else int(match[1]) * _BYTES[match[2]]
