"""Files that are no enclave images, by their first bytes: what people name by mistake, or a download left."""

from __future__ import annotations

from typing import NamedTuple


class ForeignFile(NamedTuple):
    """A file that is no enclave image: its name in a sentence, and what to do with it."""

    name: str
    hint: str


_MESSAGE = "the download may have brought a message in place of the image; read it to see why"
_ARCHIVE = "unpack it first, and name the image in it"
_PICTURE = ForeignFile(
    "a picture", "enclavectl diagnose classifies pictures; enclavectl build makes an image file"
)
_BY_MAGIC: dict[bytes, ForeignFile] = {
    b"\x1f\x8b": ForeignFile("gzip-compressed data", "unpack it first: gunzip"),
    b"\xfd7zXZ\0": ForeignFile("xz-compressed data", "unpack it first: unxz"),
    b"\x28\xb5\x2f\xfd": ForeignFile("zstd-compressed data", "unpack it first: unzstd"),
    b"PK\x03\x04": ForeignFile("a ZIP archive", _ARCHIVE),
    b"\x7fELF": ForeignFile("a program (ELF)", "enclavectl build makes an enclave image of a Docker image"),
    b"0707": ForeignFile("a ramdisk (cpio)", "enclavectl build makes an enclave image with its own ramdisks"),
    b"QFI\xfb": ForeignFile("a disk image of QEMU", "enclavectl build makes an enclave image"),
    b"version https://git-lfs.github.com/": ForeignFile(
        "a Git LFS pointer, which stands for the image", "fetch the image itself: git lfs pull"
    ),
    b"\x89PNG": _PICTURE,
    b"\xff\xd8\xff": _PICTURE,
    b"-----BEGIN ": ForeignFile("a PEM file", "name the image, not its key or certificate"),
    b"{": ForeignFile("JSON text", _MESSAGE),
    b"<": ForeignFile("a web page or XML", _MESSAGE),
}
_TAR = ForeignFile(
    "a tar archive, as docker save writes",
    "load it (docker load --input FILE), then: enclavectl build --image NAME",
)
_KERNEL = ForeignFile("a Linux kernel", "enclavectl build --kernel FILE builds an enclave image with it")
_TEXT = ForeignFile("text", "name the image; enclavectl lock show and policy show read text files")
_ZEROS = ForeignFile("zero bytes only", "its content was lost in copying; build or fetch it again")
_EMPTY = ForeignFile("an empty file", "the build or download of it did not end; build or fetch it again")


def foreign_file(head: bytes) -> ForeignFile | None:
    """Return what a file with these first 548 bytes is, if it is a known kind other than an enclave image."""
    if not head.strip(b"\0"):
        return _ZEROS if head else _EMPTY
    if head[257:262] == b"ustar":
        return _TAR
    if head[0x1FE:0x200] == b"\x55\xaa" and head[0x202:0x206] == b"HdrS":
        return _KERNEL
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    known = next((found for magic, found in _BY_MAGIC.items() if text.startswith(magic)), None)
    # An image's header has zero bytes, which no text has. A line's end tells text from a few stray letters.
    is_text = b"\n" in head and all(byte >= 0x20 or byte in b"\t\r\n" for byte in head)
    return known or (_TEXT if is_text else None)
