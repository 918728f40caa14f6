"""Images, keys, archives: everything that the tests need, made in code."""

from __future__ import annotations

import io
import ssl
import struct
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from enclavectl.eif.examine import read_verified
from enclavectl.eif.file_range import FileRange, bytes_range, whole_file
from enclavectl.eif.format import HEADER_SIZE, Header, Section, SectionKind
from enclavectl.eif.metadata import Metadata
from enclavectl.eif.ramdisk.cpio import TRAILER, CpioEntry, CpioWriter
from enclavectl.eif.ramdisk.entries import Entry, to_entry
from enclavectl.eif.ramdisk.tar import read_tar
from enclavectl.eif.sign import KeySigner
from enclavectl.eif.signature import curve_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOW = datetime(2026, 6, 1, tzinfo=UTC)
METADATA = Metadata(
    image_name="sample",
    image_version="1.0",
    build_time="2024-01-01T00:00:00+00:00",
    build_tool="enclavectl",
    build_tool_version="0",
    operating_system="Linux",
    kernel_version="6.12",
)
CMDLINE = b"reboot=k panic=30 console=ttyS0"

Sections = list[tuple[int, bytes]]


def bzimage(size: int = 4096) -> bytes:
    """The smallest thing whose header says that it is a bzImage of ``size`` bytes."""
    data = bytearray(size)
    data[0x1F1] = 1
    struct.pack_into("<I", data, 0x1F4, (size - 1024) // 16)
    data[0x1FE:0x200] = b"\x55\xaa"
    data[0x202:0x206] = b"HdrS"
    return bytes(data)


def cpio(tag: bytes = b"a", files: Mapping[str, bytes] | None = None) -> bytes:
    """A ramdisk of a file with ``tag``, and of ``files``."""
    out = io.BytesIO()
    writer = CpioWriter(out)
    for number, (name, data) in enumerate({"tag": tag, **(files or {})}.items(), 1):
        writer.add(CpioEntry(name=name.encode(), ino=number, mode=0o100644, size=len(data)), [data])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    return out.getvalue()


def sections(*, ramdisks: int = 2) -> Sections:
    """The sections of a sound image in the official order."""
    return [
        (SectionKind.KERNEL, bzimage()),
        (SectionKind.CMDLINE, CMDLINE),
        (SectionKind.METADATA, METADATA.to_bytes()),
        *[(SectionKind.RAMDISK, cpio(b"%d" % index)) for index in range(ramdisks)],
    ]


def image(
    parts: Sections | None = None, *, header: Mapping[str, int] | None = None, tail: bytes = b""
) -> bytes:
    """An image of these sections with a right CRC; ``header`` overrides fields, ``tail`` follows it all."""
    parts = sections() if parts is None else parts
    body, found = b"", []
    for kind, data in parts:
        section = Section(kind=kind, offset=HEADER_SIZE + len(body), size=len(data))
        found.append(section)
        body += section.to_bytes() + data
    unused = (0,) * (32 - len(found))
    made = Header(
        section_count=len(found),
        offsets=tuple(section.offset for section in found) + unused,
        sizes=tuple(section.size for section in found) + unused,
    )
    for key, value in (header or {}).items():
        made = replace(made, **{key: value})  # type: ignore[arg-type]  # deliberately any value
    return fix_crc(made.to_bytes() + body + tail)


def fix_crc(data: bytes) -> bytes:
    """The image with the CRC that its bytes ask for."""
    crc = zlib.crc32(data[HEADER_SIZE:], zlib.crc32(data[: HEADER_SIZE - 4]))
    return data[: HEADER_SIZE - 4] + crc.to_bytes(4) + data[HEADER_SIZE:]


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    """The private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def certificate(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    *,
    start: datetime = NOW - timedelta(days=1),
    days: int = 30,
) -> bytes:
    """A self-signed certificate as PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .sign(key, hashes.SHA384())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def with_issuer(certificate_pem: bytes, value: bytes) -> bytes:
    """The certificate with ``value``, six bytes of DER, for its issuer; nothing checks its signature."""
    der = x509.load_pem_x509_certificate(certificate_pem).public_bytes(serialization.Encoding.DER)
    changed = der.replace(b"\x0c\x04test", value, 1)
    return ssl.DER_cert_to_PEM_cert(changed).encode()


def signed_image(
    key: ec.EllipticCurvePrivateKey, certificate_file: bytes, *, pcr0: str | None = None
) -> bytes:
    """A sound image that nitro-cli signed with this certificate file, which it embeds as it is.

    ``pcr0`` is what was signed, if that is not the image's own.
    """
    signer = KeySigner(certificate_pem=certificate_file, curve=curve_of(key, "key"), key=key)
    right = read_verified(io.BytesIO(image())).measurements.pcr0
    return image([*sections(), (SectionKind.SIGNATURE, signer.sign(pcr0 or right).to_bytes())])


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """A tar header; ``fields`` are attributes of ``TarInfo``."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar(members: Iterable[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar of these members; a file is a pair of header and content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for one in members:
            info, data = one if isinstance(one, tuple) else (one, b"")
            if data:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def directory(name: str, **fields: object) -> tarfile.TarInfo:
    """A directory member."""
    return member(name, kind=tarfile.DIRTYPE, **fields)


def text(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A file member with its content."""
    return member(name, tarfile.REGTYPE, **fields), data


def symlink(name: str, target: str, **fields: object) -> tarfile.TarInfo:
    """A symbolic link member."""
    return member(name, kind=tarfile.SYMTYPE, linkname=target, **fields)


def hardlink(name: str, target: str, **fields: object) -> tarfile.TarInfo:
    """A hard link member."""
    return member(name, kind=tarfile.LNKTYPE, linkname=target, **fields)


def layer(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> FileRange:
    """A layer as the readers take it."""
    return bytes_range(tar(members))


def stream(data: bytes) -> FileRange:
    """Bytes as a whole file."""
    return whole_file(io.BytesIO(data))


def pack_zstd(data: bytes) -> bytes:
    """One frame with a checksum."""
    return bytes(zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}))


def skippable(data: bytes = b"pzstd") -> bytes:
    """A frame of zstd or lz4 that a reader passes over."""
    return struct.pack("<II", 0x184D2A50, len(data)) + data


def read_export(archive: FileRange) -> Iterator[Entry]:
    """Yield the entries of a ``docker export`` tar, in its order, without the root."""
    return (entry for member in read_tar(archive) if (entry := to_entry(member)).name)
