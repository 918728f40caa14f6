"""The place of the demonstrations: enclaves of the local backend, a picture, and a client behind a relay."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from enclavectl.attestation import Policy, Release
from enclavectl.backends.base import ProcessSpec
from enclavectl.backends.local.backend import LocalBackend
from enclavectl.backends.local.measure import measure, payload_dir
from enclavectl.client.exchange import CheckedAnswer, Expectation
from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client
from enclavectl.errors import EnclaveBusy
from enclavectl.models.card import read_card
from enclavectl.models.find import PACKAGED_DIR
from enclavectl.net.address import UnixAddress
from enclavectl.net.frames import FrameType
from enclavectl.protocol.key_config import MODEL_PCR, model_register
from enclavectl.protocol.media import MediaType
from enclavectl.selftest.relay import Change, relay

# Each of them takes milliseconds. A machine under load may need seconds for the first.
TIMEOUT_S = 20.0
_SIDE = 96  # pixels: small, and not so small that the enclave remarks on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A running enclave, and what a client that means it expects."""

    address: UnixAddress
    expectation: Expectation


@dataclass(kw_only=True)
class Arena:
    """Two enclaves of the same image, and one in debug mode that is started when it is asked for.

    ``sealed_bytes`` counts what left the client, sealed, since ``begin``.
    """

    folder: Path
    first: Stage
    second: Stage
    sealed_bytes: int = 0
    _stack: ExitStack = field(repr=False)
    _relays: int = 0

    def begin(self) -> None:
        """Begin to count anew."""
        self.sealed_bytes = 0

    @cached_property
    def debugged(self) -> Stage:
        """An enclave in debug mode."""
        return self._stack.enter_context(_running(self.folder / "debug", debug=True))

    @cached_property
    def picture(self) -> Picture:
        """A picture of two colors, made here."""
        image = Image.new("RGB", (_SIDE, _SIDE), (224, 172, 150))
        image.paste((90, 50, 40), (_SIDE // 3, _SIDE // 3, 2 * _SIDE // 3, 2 * _SIDE // 3))
        file = io.BytesIO()
        image.save(file, "PNG")
        return Picture("sample.png", MediaType.PNG, file.getvalue())

    def ask(
        self,
        pictures: Sequence[Picture] = (),
        *,
        change: Change | None = None,
        stage: Stage | None = None,
        policy: Policy | None = None,
    ) -> list[CheckedAnswer]:
        """Have pictures answered through a relay, as `diagnose` does it. Default is the arena's picture.

        Raises:
            EnclavectlError: somebody refused.
        """
        stage = stage or self.first
        expectation = replace(stage.expectation, policy=policy or stage.expectation.policy)
        with self._connect(stage, expectation, change) as client:
            for picture in pictures or [self.picture]:
                client.submit(picture, client.prepare(picture))
            return [_answered(client) for _ in pictures or [self.picture]]

    @contextmanager
    def _connect(self, stage: Stage, expectation: Expectation, change: Change | None) -> Iterator[Client]:
        def watch(kind: FrameType, body: bytes) -> bytes | None:
            if kind is FrameType.SEALED:
                self.sealed_bytes += len(body)
            return body if change is None else change(kind, body)

        self._relays += 1
        folder = self.folder / f"r{self._relays}"
        folder.mkdir()
        with (
            relay(folder, stage.address, watch) as address,
            Client.connect(address, expectation, timeout_s=TIMEOUT_S) as client,
        ):
            yield client

    def policy_of(self, *, payload: bytes = b"", model: bytes = b"") -> Policy:
        """Return a policy of this image with bytes added to a file of its payload, or to its model."""
        changed = self.folder / f"changed-{len(payload)}-{len(model)}"
        shutil.copytree(payload_dir(), changed / "payload", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PACKAGED_DIR, changed / "model", dirs_exist_ok=True)
        card = read_card(PACKAGED_DIR / "model.yaml")
        (changed / "model" / "model.json").write_bytes(card.card.to_json())
        for path, more in (
            (changed / "payload" / "session.py", payload),
            (changed / "model" / "model.tflite", model),
        ):
            path.write_bytes(path.read_bytes() + more)
        registers = measure(changed / "payload", changed / "model")
        pinned = {**registers, MODEL_PCR: model_register(card.card.to_json())}
        return replace(self.first.expectation.policy, releases=(Release(name="changed", pcrs=pinned),))


@contextmanager
def open_arena() -> Iterator[Arena]:
    """Start the enclaves in a folder of their own, and end them with the block.

    Raises:
        EnclavectlError: this machine cannot run the local backend.
    """
    # A short name: a Unix socket's path has at most 107 bytes.
    with TemporaryDirectory(prefix="enclavectl-", dir="/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        first = stack.enter_context(_running(folder / "first"))
        second = stack.enter_context(_running(folder / "second"))
        yield Arena(folder=folder, first=first, second=second, _stack=stack)


@contextmanager
def _running(state: Path, *, debug: bool = False) -> Iterator[Stage]:
    backend = LocalBackend(state)
    spec = ProcessSpec(
        name=None,
        model=read_card(PACKAGED_DIR / "model.yaml"),
        debug=debug,
        memory_mib=4096,
        workers=2,
        port_in=5005,
        port_out=5006,
    )
    with backend.start(spec, detached=False) as running:
        address = running.enclave.address
        if not isinstance(address, UnixAddress):
            raise TypeError(f"expected a Unix socket, found {address}")
        policy = backend.policy([running.enclave], allow_debug=debug)
        yield Stage(address=address, expectation=Expectation(policy=policy, root=backend.trust_root()))


def _answered(client: Client) -> CheckedAnswer:
    _, result = client.next_answer(time.monotonic() + TIMEOUT_S)
    if isinstance(result, EnclaveBusy):
        raise result
    if result is None:
        raise TypeError("an answer that was asked for here came elsewhere")
    return result
