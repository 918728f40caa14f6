"""An image archive (``docker save``, or an OCI layout in a tar): its configuration and its layers, in place.

Plain layers are read where they stand in the archive; compressed ones are unpacked into unnamed temporary
files, never into memory, and never as a file tree. Each layer must hash to what the configuration says.

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md and
https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange, whole_file
from enclavectl.eif.format import Arch
from enclavectl.eif.packed import PackedError, Packing, Unpacker, packing_of
from enclavectl.eif.ramdisk.manifest import ImageConfig, choose_image, parse_config
from enclavectl.eif.ramdisk.platform import Platform
from enclavectl.eif.ramdisk.tar import BLOCK, read_tar
from enclavectl.errors import HostError, StateError

MAX_LAYERS = 512  # dockerd allows 128
MAX_MEMBERS = 1 << 14  # docker save writes at most four members for each layer
MAX_LAYER = 64 << 30  # bytes, unpacked: bounds the disk space that a compressed layer may take


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageArchive:
    """An open image: ``layers`` are plain tars, lowest first, usable until the context ends."""

    config: ImageConfig
    layers: tuple[FileRange, ...]


@contextmanager
def open_archive(
    path: Path, *, platform: Platform | None = None, preferred: Arch | None = None
) -> Iterator[ImageArchive]:
    """Open the image in an archive; of several, the one for ``platform``, else the one for ``preferred``.

    Raises:
        LayerError: the archive is damaged, not an image, ambiguous, or a layer does not match its digest.
        HostError: a compressed layer does not fit the temporary folder.
        StateError: there is no such file.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as exc:
            raise StateError(f"cannot read {path}: {exc.strerror}") from exc
        members = _members(whole_file(file))
        sources = choose_image(members, platform, preferred=preferred)
        config, diff_ids = parse_config(sources)
        if platform is not None and config.architecture != platform.arch.value:
            raise LayerError(
                f"expected an image for {platform}, found one for {config.architecture or 'an unnamed one'}",
                code="image-choice",
            )
        if len(sources.layers) != len(diff_ids) or len(diff_ids) > MAX_LAYERS:
            raise LayerError(
                f"expected {len(diff_ids)} layers (at most {MAX_LAYERS}), found {len(sources.layers)}",
                code="image-layers",
            )
        layers: list[FileRange] = []
        for blob, diff_id in zip(sources.layers, diff_ids, strict=True):
            plain, digest = _plain(blob, stack)
            if digest != diff_id:
                raise LayerError(
                    f"layer {len(layers) + 1}: expected SHA-256 {diff_id}, found {digest}",
                    code="layer-digest",
                )
            layers.append(plain)
        yield ImageArchive(config=config, layers=tuple(layers))


def _members(archive: FileRange) -> dict[str, FileRange]:
    """Return the files of the archive by name, and the links that older Docker wrote for repeated layers."""
    files: dict[str, FileRange] = {}
    links: dict[str, str] = {}
    for member in read_tar(archive):
        if len(files) + len(links) >= MAX_MEMBERS:
            raise LayerError(f"more than {MAX_MEMBERS} files: not an image archive", code="image-format")
        name = member.name.decode("utf-8", "surrogateescape").removeprefix("./").rstrip("/")
        if member.kind == b"0":
            files[name] = member.data
        elif member.kind in b"12":
            target = member.target.decode("utf-8", "surrogateescape")
            links[name] = _join(name, target) if member.kind == b"2" else target
    for name, target in links.items():
        if target in files:
            files.setdefault(name, files[target])
    return files


def _join(link: str, target: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(link).parent / target).parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)


def _plain(blob: FileRange, stack: ExitStack) -> tuple[FileRange, str]:
    """Return the layer as a plain tar, and the tar's SHA-256."""
    head = blob.head(BLOCK)
    # A tar begins with a file name, which may look like the magic of a packing ("BZh").
    packing = None if head[257:262] == b"ustar" else packing_of(head)
    digest = hashlib.sha256()
    if packing is None:
        for chunk in blob.chunks():
            digest.update(chunk)
        return blob, digest.hexdigest()
    if not packing.is_readable:
        raise LayerError(
            f"the layer is compressed with {packing}, which is not supported",
            code="layer-compression",
            hint="have its layers in gzip: skopeo copy --dest-compress-format gzip ...",
        )
    try:
        spool = stack.enter_context(tempfile.TemporaryFile(prefix="enclavectl-layer-"))  # noqa: SIM115 - the stack closes it
        for chunk in _unpacked(blob, packing):
            digest.update(chunk)
            spool.write(chunk)
    except OSError as exc:
        raise HostError(
            f"cannot unpack a layer into {tempfile.gettempdir()}: {exc.strerror}",
            hint="set TMPDIR to a folder with more room",
        ) from exc
    return whole_file(spool), digest.hexdigest()


def _unpacked(blob: FileRange, packing: Packing) -> Iterator[bytes]:
    """Yield the plain layer.

    Raises:
        LayerError: ``layer-compression`` (damaged) or ``layer-size``.
    """
    total, unpacker = 0, Unpacker(packing)
    try:
        for chunk in blob.chunks():
            for piece in unpacker.feed(chunk):
                total += len(piece)
                if total > MAX_LAYER:
                    raise LayerError(f"the layer unpacks to more than {MAX_LAYER} bytes", code="layer-size")
                yield piece
        unpacker.finish()
    except PackedError as exc:
        raise LayerError(f"the layer is damaged {packing} ({exc})", code="layer-compression") from exc
