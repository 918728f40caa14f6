"""Private keys and credentials in bytes that are about to become a public measurement.

Everything in an image can be read by whoever has the image file, the operator first of all. Only contents and
well-known names count (``tokens``), so that a file that merely speaks of keys is not taken for one. What is
packed into zip, tar, gzip, bzip2 and xz files is looked at as well (``unpack``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from enclavectl.eif.ramdisk.cpio import show
from enclavectl.image import tokens
from enclavectl.image.findings import Rule
from enclavectl.image.unpack import Inner, is_tar, open_container

# Enough of a key's first lines to know it; keys may stand anywhere, also across two chunks.
_OVERLAP = 4096
_MAX_SEEN = 16  # of one file; more would not change what to do
_MAX_DER_KEY = 16 << 10
# TLS libraries carry the keys of their self-tests (GnuTLS does), so a key inside of a program is not counted.
_PROGRAM = (b"\x7fELF", b"!<arch>\n")

Seen = tuple[Rule, str]


def secrets_in(name: bytes, chunks: Iterable[bytes]) -> Iterator[Seen]:
    """What a file holds that must stay private: each rule and what was seen, once, also in what it packs."""
    look = _Look(name, set())
    for chunk in chunks:
        look.feed(chunk)
    look.finish()
    yield from sorted(look.seen)


def secrets_in_text(text: str) -> Iterator[Seen]:
    """The same for one line of settings, such as a command."""
    data = text.encode(errors="surrogateescape")
    yield from secrets_in(b"", [data])
    if tokens.URL_LOGIN.search(data):
        yield Rule.CREDENTIAL, "a password in an address"


def secret_variables(env: Iterable[str]) -> Iterator[str]:
    """The names of environment variables that are called like a secret and have a value."""
    for line in env:
        name, _, value = line.partition("=")
        if value and tokens.SECRET_VARIABLE.fullmatch(name):
            yield name


def secret_arguments(command: str) -> Iterator[str]:
    """The names in a command, or in a build argument, that are called like a secret and get a value."""
    yield from dict.fromkeys(match[1] for match in tokens.ASSIGNED.finditer(command))


class _Look:
    """One file as it is read, chunk by chunk, and the files in it if it packs some."""

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
        """Look at the next bytes."""
        if not self._started:
            self._rest += chunk
            if len(self._rest) > _MAX_DER_KEY:
                self._start()
            return
        self._examine(chunk)

    def _start(self) -> None:
        """Know the file by its beginning, which is the whole of a small one."""
        self._started = True
        head, self._rest = self._rest, b""
        # In a tar, each file is looked at by itself: one may be a program.
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
        """The file has ended."""
        if not self._started and self._rest:
            self._start()
        if self._inner is not None:
            self._inner.finish()

    def _open(self, name: bytes) -> _Look:
        """For a file inside of this one; ``name`` is empty where what packs it has no names."""
        shown = show(name)
        inside = "/".join(part for part in (self._inside, shown) if part)
        return _Look(name or self._name, self.seen, inside=inside or "it", depth=self._depth + 1)

    def _add(self, rule: Rule, what: str) -> None:
        if len(self.seen) < _MAX_SEEN:
            packed = f", packed in {self._inside}" if self._inside else ""
            self.seen.add((rule, what + packed))


def _is_der_key(data: bytes) -> bool:
    """Whether a file that begins like this is a binary private key and nothing else."""
    if not tokens.DER_KEY.match(data) or len(data) > _MAX_DER_KEY:
        return False
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        load_der_private_key(data, password=None)
    except UnsupportedAlgorithm:
        return True  # a key, only of a kind that this library does not know
    except (ValueError, TypeError):
        return False
    return True
