"""Private keys and credentials in bytes that are about to become a public measurement.

Whoever has the image file can read everything in the image; the operator has it. Only contents and well-known
names count (``tokens``), so a file that merely mentions keys is no finding. The scan also reads files inside
zip, tar, gzip, bzip2 and xz files (``unpack``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from enclavectl.eif.ramdisk.cpio import show
from enclavectl.image import tokens
from enclavectl.image.findings import Rule
from enclavectl.image.unpack import Inner, is_tar, open_container

# Bytes of the previous chunk that are scanned again: the longest token or start of a key fits, so a key that
# lies across two chunks is found.
_OVERLAP = 4096
_MAX_SEEN = 16  # findings per file; more would not change what to do
_MAX_DER_KEY = 16 << 10  # bytes; an RSA key of 16,384 bits, the largest that OpenSSL makes, has 9.3 KB
# TLS libraries contain the keys of their self-tests (GnuTLS does), so a key inside a program is not reported.
_PROGRAM = (b"\x7fELF", b"!<arch>\n")

Seen = tuple[Rule, str]


def secrets_in(name: bytes, chunks: Iterable[bytes]) -> Iterator[Seen]:
    """Find secrets in a file and in the files packed into it; yield each rule and kind once."""
    look = _FileScan(name, set())
    for chunk in chunks:
        look.feed(chunk)
    look.finish()
    yield from sorted(look.seen)


def secrets_in_text(text: str) -> Iterator[Seen]:
    """Find secrets in one line of settings, such as a command."""
    data = text.encode(errors="surrogateescape")
    yield from secrets_in(b"", [data])
    if tokens.URL_LOGIN.search(data):
        yield Rule.CREDENTIAL, "a password in an address"


def secret_variables(env: Iterable[str]) -> Iterator[str]:
    """Find environment variables that are named like a secret and have a value."""
    for line in env:
        name, _, value = line.partition("=")
        if value and tokens.SECRET_VARIABLE.fullmatch(name):
            yield name


def secret_arguments(command: str) -> Iterator[str]:
    """Find names in a command or build argument that look like a secret's and get a value."""
    yield from dict.fromkeys(match[1] for match in tokens.ASSIGNED.finditer(command))


class _FileScan:
    """The scan of one file, chunk by chunk, and of the files that it packs."""

    def __init__(self, name: bytes, seen: set[Seen], *, inside: str = "", depth: int = 0) -> None:
        self.seen = seen
        self._name, self._inside, self._depth = name, inside, depth
        self._rest = b""
        self._started = self._is_bundle = False
        self._inner: Inner | None = None
        if tokens.KEY_NAMES.search(name):
            self._add(Rule.PRIVATE_KEY, "the name of an SSH private key")
        if tokens.CREDENTIAL_NAMES.search(name):
            self._add(Rule.CREDENTIAL, "a file that holds credentials")

    def feed(self, chunk: bytes) -> None:
        """Scan the next bytes."""
        if not self._started:
            self._rest += chunk
            if len(self._rest) > _MAX_DER_KEY:
                self._start()
            return
        self._examine(chunk)

    def _start(self) -> None:
        """Recognize the kind of file by its beginning, which is all of a small file."""
        self._started = True
        head, self._rest = self._rest, b""
        # Each file in a tar is scanned by itself: some may be programs.
        self._is_bundle = head.startswith(_PROGRAM) or is_tar(head)
        if _is_der_key(head):
            self._add(Rule.PRIVATE_KEY, "a private key")
        if self._name.endswith((b".p12", b".pfx")) and tokens.KEY_STORE.match(head):
            self._add(Rule.PRIVATE_KEY, "a PKCS #12 key store")
        self._inner = open_container(head, self._name, self._depth, self._open)
        self._examine(head)

    def _examine(self, chunk: bytes) -> None:
        window = self._rest + chunk if self._rest else chunk
        is_text = self._depth > 0 or window.find(b"\0") < 0
        for token in (*tokens.TOKENS, *tokens.TEXT_TOKENS) if is_text else tokens.TOKENS:
            if not (self._is_bundle and token.rule is Rule.PRIVATE_KEY) and token.is_in(window):
                self._add(token.rule, token.what)
        if is_text and tokens.URL_NAMES.search(self._name) and tokens.URL_LOGIN.search(window):
            self._add(Rule.CREDENTIAL, "a password in an address")
        if is_text and tokens.ENV_NAMES.search(self._name):
            lines = window.decode(errors="replace").splitlines()
            for variable in secret_variables(line.strip().removeprefix("export ") for line in lines):
                self._add(Rule.CREDENTIAL, f"the variable {variable}")
        self._rest = window[-_OVERLAP:]
        if self._inner is not None:
            self._inner.feed(chunk)

    def finish(self) -> None:
        """Scan what is left at the end of the file."""
        if not self._started and self._rest:
            self._start()
        if self._inner is not None:
            self._inner.finish()

    def _open(self, name: bytes) -> _FileScan:
        """Start the scan of a file inside this one; ``name`` is empty if its container stores no names."""
        shown = show(name)
        inside = "/".join(part for part in (self._inside, shown) if part)
        return _FileScan(name or self._name, self.seen, inside=inside or "it", depth=self._depth + 1)

    def _add(self, rule: Rule, what: str) -> None:
        if len(self.seen) < _MAX_SEEN:
            packed = f", packed in {self._inside}" if self._inside else ""
            self.seen.add((rule, what + packed))


def _is_der_key(data: bytes) -> bool:
    """Return whether ``data``, a whole file, is a binary private key."""
    if not tokens.DER_KEY.match(data) or len(data) > _MAX_DER_KEY:
        return False
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        load_der_private_key(data, password=None)
    except UnsupportedAlgorithm:
        return True  # a key of a kind that this library does not know
    except (ValueError, TypeError):
        return False
    return True
