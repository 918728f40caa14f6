"""The JSON of an image archive: the configuration and the layers of the chosen image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.platform import Platform, normal_platform
from enclavectl.eif.strictjson import parse_json
from enclavectl.json_object import JsonValue

MAX_JSON = 4 << 20  # bytes; registries need not accept more (OCI distribution-spec); most have 10 kB
_MAX_NAMED = 8  # platforms in a message: more than real images have
MAX_INDEXES = 8  # nested indexes; builders write two
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
    """The configuration of an image. ``image_id`` is the SHA-256 of its configuration, in hex.

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
        """Return the command that nitro-cli starts: Cmd alone, even beside an Entrypoint; else the
        Entrypoint.

        Raises:
            LayerError: ``image-command``; the image has neither.
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
    """One image of an archive: its configuration (with its digest, if known) and its layers."""

    config: FileRange
    config_digest: str | None
    layers: tuple[FileRange, ...]


def choose_image(
    members: Mapping[str, FileRange], platform: Platform | None = None, *, preferred: Arch | None = None
) -> Sources:
    """Choose the image of an archive with these files.

    Of several for different platforms, ``platform`` chooses, and must exist; without it ``preferred``
    chooses. Only the platform of the other images is read.

    Raises:
        EifError: the JSON is damaged, a file is missing or does not match its digest, or the choice is not
            unique (``image-choice``).
    """
    if "index.json" in members:
        index = _mapping(_load(members["index.json"], None), "index.json")
        return _choose(list(_candidates(members, index, set(), MAX_INDEXES)), platform, preferred).sources()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """An image manifest of an archive; it is read lazily if its index names the platform."""

    members: Mapping[str, FileRange]
    digest: str
    platform: tuple[str, str, str] | None  # system, architecture, variant

    def sources(self) -> Sources:
        """Read the manifest and return the files that it names."""
        value = self._manifest()
        config = _digest(_mapping(value.get("config"), "config"))
        layers = [_digest(_mapping(layer, "layer")) for layer in _list(value.get("layers"), "layers")]
        return Sources(
            config=_member(self.members, _blob(config)),
            config_digest=config,
            layers=tuple(_member(self.members, _blob(layer)) for layer in layers),
        )

    def is_image(self) -> bool:
        """Return False for entries beside images: signatures, attestations and the like."""
        value = self._manifest()
        config = _mapping(value.get("config"), "config")
        media_type = config.get("mediaType")
        return "artifactType" not in value and (
            not isinstance(media_type, str) or "/vnd.oci.empty" not in media_type
        )

    def read_platform(self) -> tuple[str, str, str]:
        """Return the platform that the index names; if it names none, the configuration's."""
        if self.platform is not None:
            return self.platform
        config = _digest(_mapping(self._manifest().get("config"), "config"))
        data = _verified(_member(self.members, _blob(config)), config)
        return _platform(_mapping(parse_json(data, what="image", limit=MAX_JSON), "config"))

    def _manifest(self) -> Mapping[str, JsonValue]:
        return _mapping(_load(_member(self.members, _blob(self.digest)), self.digest), "manifest")


def _choose(found: list[_Candidate], platform: Platform | None, preferred: Arch | None) -> _Candidate:
    found = [one for one in found if one.platform is not None or one.is_image()]
    if platform is None and len(found) == 1:
        return found[0]
    wanted = platform if platform is not None or preferred is None else Platform(preferred)
    if wanted is None:
        raise _no_choice("one image", found)
    of_arch = [one for one in found if one.read_platform()[:2] == ("linux", wanted.arch.value)]
    # Without a variant, the baseline that each machine of the architecture runs, as in Docker.
    matching = [one for one in of_arch if one.read_platform()[2] == wanted.variant]
    if not matching and not wanted.variant:
        matching = of_arch
    if len(matching) != 1:
        raise _no_choice(f"one image for {wanted}", found)
    return matching[0]


def _no_choice(expected: str, found: list[_Candidate]) -> LayerError:
    names = ["/".join(filter(None, one.read_platform())) for one in found[:_MAX_NAMED]]
    listed = f" ({', '.join(names)})" if names else ""
    hint = "save one image at a time: docker save --output IMAGE.tar NAME:TAG"
    if len(set(names)) > 1:
        hint = "name its platform: enclavectl build --platform linux/arm64"
    return LayerError(
        f"expected {expected}, found {len(found)}{listed}",
        code="image-choice",
        hint=hint,
    )


def _candidates(
    members: Mapping[str, FileRange], index: Mapping[str, JsonValue], seen: set[str], depth: int
) -> Iterator[_Candidate]:
    """Yield each Linux image once, however many tags it has; ``seen`` also stops cycles of indexes."""
    if not depth:
        raise LayerError(f"more than {MAX_INDEXES} indexes within each other", code="image-format")
    for item in _list(index.get("manifests"), "manifests"):
        descriptor = _mapping(item, "manifests")
        media_type, platform = descriptor.get("mediaType"), None
        if isinstance(raw := descriptor.get("platform"), Mapping):
            platform = _platform(raw)
        digest = _digest(descriptor)
        if digest in seen:
            continue
        seen.add(digest)
        if media_type not in _MANIFEST_TYPES + _INDEX_TYPES or _blob(digest) not in members:
            continue  # other platforms of an index need not be in the archive
        if media_type in _INDEX_TYPES:
            value = _mapping(_load(_member(members, _blob(digest)), digest), "manifest")
            yield from _candidates(members, value, seen, depth - 1)
        elif not _is_beside(descriptor) and (platform is None or platform[0] == "linux"):
            yield _Candidate(members=members, digest=digest, platform=platform)


def _is_beside(descriptor: Mapping[str, JsonValue]) -> bool:
    """Return True for an entry beside an image: BuildKit's attestations, signatures."""
    annotations = descriptor.get("annotations")
    kind = annotations.get("vnd.docker.reference.type") if isinstance(annotations, Mapping) else None
    return kind == "attestation-manifest" or "artifactType" in descriptor


def _platform(value: Mapping[str, JsonValue]) -> tuple[str, str, str]:
    """Return system, architecture and variant of a descriptor or configuration, in Docker's names."""
    words = [value.get(key) for key in ("os", "architecture", "variant")]
    system, architecture, variant = (word if isinstance(word, str) else "" for word in words)
    return (system.lower() or "linux", *normal_platform(architecture, variant))


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def parse_config(sources: Sources) -> tuple[ImageConfig, list[str]]:
    """Read the image's configuration, and the required SHA-256 of each plain layer, lowest first.

    Raises:
        EifError: the JSON is damaged, or does not match its digest.
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
        architecture=_platform(value)[1],
        cmd=_words(inner.get("Cmd"), "Cmd"),
        entrypoint=_words(inner.get("Entrypoint"), "Entrypoint"),
        env=_words(inner.get("Env"), "Env") or (),
        ignored=tuple(key for key in ignored if inner.get(key)),
        raw=value,
    )
    return config, diff_ids


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
