"""The JSON of an image archive: which configuration and which layers make up the image that is meant."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.format import Arch
from enclavectl.eif.strictjson import JsonValue, parse_json

MAX_JSON = 4 << 20
MAX_INDEXES = 8  # within each other; builders write two
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says of itself. ``image_id`` is the SHA-256 of its configuration, in hex.

    ``ignored`` names the settings that an enclave does not honor (USER, WORKDIR, HEALTHCHECK, ...).
    """

    image_id: str
    architecture: str
    cmd: tuple[str, ...] | None
    entrypoint: tuple[str, ...] | None
    env: tuple[str, ...]
    ignored: tuple[str, ...]
    raw: Mapping[str, JsonValue]

    def command(self) -> tuple[str, ...]:
        """What nitro-cli starts: Cmd alone where there is one, even beside an Entrypoint; else Entrypoint.

        Raises:
            LayerError: ``image-command``; there is neither.
        """
        words = self.cmd if self.cmd is not None else self.entrypoint
        if words is None:
            raise LayerError(
                "the image has neither CMD nor ENTRYPOINT, so an enclave would not know what to start",
                code="image-command",
                hint='add CMD ["/absolute/path", ...] to the Dockerfile',
            )
        return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """One image of an archive: its configuration (with its digest, where one is known) and its layers."""

    config: FileRange
    config_digest: str | None
    layers: tuple[FileRange, ...]


def choose_image(members: Mapping[str, FileRange], arch: Arch | None) -> Sources:
    """The one image in an archive with these files; ``arch`` chooses where there are several.

    Raises:
        EifError: the JSON is damaged, a file is missing or is not what its digest says, or the choice is not
            unique (``image-choice``).
    """
    if "index.json" in members:
        index = _mapping(_load(members["index.json"], None), "index.json")
        found = list(_manifests(members, index, set(), MAX_INDEXES))
        matching = [one for one in found if arch is None or _arch_of(one) == arch.value]
        if len(matching) != 1:
            raise LayerError(
                f"expected one image{f' for {arch.value}' if arch else ''}, found {len(matching)}",
                code="image-choice",
                hint="save one image at a time: docker save --output IMAGE.tar NAME:TAG",
            )
        return matching[0]
    if "manifest.json" not in members:
        raise LayerError("neither index.json nor manifest.json: not an image archive", code="image-format")
    images = _list(_load(members["manifest.json"], None), "manifest.json")
    if len(images) != 1:
        raise LayerError(
            f"expected one image, found {len(images)}",
            code="image-choice",
            hint="save one image at a time: docker save --output IMAGE.tar NAME:TAG",
        )
    image = _mapping(images[0], "manifest.json")
    names = [_text(name, "Layers") for name in _list(image.get("Layers"), "Layers")]
    name = _text(image.get("Config"), "Config")
    match = re.fullmatch(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?", name)
    return Sources(
        config=_member(members, name),
        config_digest=match[1] if match else None,
        layers=tuple(_member(members, one) for one in names),
    )


def _manifests(
    members: Mapping[str, FileRange], index: Mapping[str, JsonValue], seen: set[str], depth: int
) -> Iterator[Sources]:
    """Each image once, however many tags it has; ``seen`` also ends indexes that name each other."""
    if not depth:
        raise LayerError(f"more than {MAX_INDEXES} indexes within each other", code="image-format")
    for item in _list(index.get("manifests"), "manifests"):
        descriptor = _mapping(item, "manifests")
        media_type = descriptor.get("mediaType")
        platform = descriptor.get("platform")
        if isinstance(platform, Mapping) and platform.get("os") == "unknown":
            continue  # BuildKit's attestations
        digest = _digest(descriptor)
        if digest in seen:
            continue
        seen.add(digest)
        if media_type not in _MANIFEST_TYPES + _INDEX_TYPES or f"blobs/sha256/{digest}" not in members:
            continue  # other platforms of an index need not be in the archive
        value = _mapping(_load(_member(members, f"blobs/sha256/{digest}"), digest), "manifest")
        if media_type in _INDEX_TYPES:
            yield from _manifests(members, value, seen, depth - 1)
            continue
        config = _digest(_mapping(value.get("config"), "config"))
        layers = [_digest(_mapping(layer, "layer")) for layer in _list(value.get("layers"), "layers")]
        yield Sources(
            config=_member(members, f"blobs/sha256/{config}"),
            config_digest=config,
            layers=tuple(_member(members, f"blobs/sha256/{layer}") for layer in layers),
        )


def parse_config(sources: Sources) -> tuple[ImageConfig, list[str]]:
    """The image's configuration, and the SHA-256 that each plain layer must have, lowest first.

    Raises:
        EifError: the JSON is damaged, or is not what its digest says.
    """
    data, value = _config(sources)
    raw = value.get("config")
    inner: Mapping[str, JsonValue] = _mapping(raw, "config") if raw is not None else {}
    rootfs = _mapping(value.get("rootfs"), "rootfs")
    diff_ids = []
    for item in _list(rootfs.get("diff_ids"), "diff_ids"):
        match = _DIGEST.fullmatch(_text(item, "diff_ids"))
        if match is None:
            raise LayerError(f"diff_ids: expected sha256:HEX, found {item!r}", code="image-format")
        diff_ids.append(match[1])
    ignored = ("User", "WorkingDir", "Healthcheck", "Volumes", "StopSignal", "ExposedPorts")
    config = ImageConfig(
        image_id=hashlib.sha256(data).hexdigest(),
        architecture=_text(value.get("architecture"), "architecture"),
        cmd=_words(inner.get("Cmd"), "Cmd"),
        entrypoint=_words(inner.get("Entrypoint"), "Entrypoint"),
        env=_words(inner.get("Env"), "Env") or (),
        ignored=tuple(key for key in ignored if inner.get(key)),
        raw=value,
    )
    return config, diff_ids


def _arch_of(sources: Sources) -> str:
    return _text(_config(sources)[1].get("architecture"), "architecture")


def _config(sources: Sources) -> tuple[bytes, Mapping[str, JsonValue]]:
    data = _verified(sources.config, sources.config_digest)
    return data, _mapping(parse_json(data, what="image", limit=MAX_JSON), "config")


def _load(blob: FileRange, digest: str | None) -> JsonValue:
    return parse_json(_verified(blob, digest), what="image", limit=MAX_JSON)


def _verified(blob: FileRange, digest: str | None) -> bytes:
    data = blob.read(MAX_JSON)
    actual = hashlib.sha256(data).hexdigest()
    if digest is not None and actual != digest:
        raise LayerError(f"expected a blob with SHA-256 {digest}, found {actual}", code="image-digest")
    return data


def _member(members: Mapping[str, FileRange], name: str) -> FileRange:
    if name not in members:
        raise LayerError(f"the archive lacks {name[:128]!r}", code="image-format")
    return members[name]


def _digest(descriptor: Mapping[str, JsonValue]) -> str:
    text = _text(descriptor.get("digest"), "digest")
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise LayerError(f"digest: expected sha256:HEX, found {text[:80]!r}", code="image-format")
    return match[1]


def _mapping(value: JsonValue, where: str) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise LayerError(f"{where}: expected an object", code="image-format")
    return value


def _list(value: JsonValue, where: str) -> Sequence[JsonValue]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise LayerError(f"{where}: expected a list", code="image-format")
    return value


def _text(value: JsonValue, where: str) -> str:
    if not isinstance(value, str):
        raise LayerError(f"{where}: expected a string", code="image-format")
    return value


def _words(value: JsonValue, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(_text(word, where) for word in _list(value, where))
