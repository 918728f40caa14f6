"""From a started enclave without weights to one that serves: offer, key, chunks."""

from __future__ import annotations

import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from enclave_payload.release import State
from enclavectl.errors import AttestationError, EnclaveError, EnclaveLost, StateError
from enclavectl.files import write_atomic
from enclavectl.net.access import Access
from enclavectl.net.address import Address, NetworkAddress
from enclavectl.net.frames import FrameStream
from enclavectl.net.transport import open_stream
from enclavectl.progress import Progress
from enclavectl.weights.key_file import ModelKey
from enclavectl.weights.kms_call import Kms
from enclavectl.weights.log import ReleaseLog
from enclavectl.weights.owner import ReleaseTerms, release_key
from enclavectl.weights.release_port import ReleaseConnection, relay
from enclavectl.weights.sealed_file import SealedFile

# Weights are loaded after the last chunk: 64 MiB take seconds on one vCPU.
_TIMEOUT_S = 60.0
_RETRY_S = 0.2
# For the owner's program to be started, and to come back after a restart.
OWNER_S = 600.0


class KeySource(ABC):
    """Where the key comes from."""

    @abstractmethod
    def obtain(self, address: Address, progress: Progress) -> None:
        """Have the enclave, at its release port, given the key; it says KEYED afterwards.

        Raises:
            EnclavectlError: it is not given.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInFile(KeySource):
    """The key file is here: this process plays the owner. For tests and trials, where one is both."""

    key: ModelKey
    terms: Callable[[], ReleaseTerms]

    def obtain(self, address: Address, progress: Progress) -> None:
        """Release the key as its owner would, to an enclave that proves itself."""
        progress.update("releasing the key of a file here", 0, _TIMEOUT_S)
        stream = FrameStream(open_stream(address, _TIMEOUT_S), f"the enclave at {address}")
        try:
            log = ReleaseLog(None, None)
            release_key(stream, self.key, self.terms, log, time.monotonic() + _TIMEOUT_S)
        finally:
            stream.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerService(KeySource):
    """The owner's `model release --listen`: this host dials it, and copies bytes that it cannot read."""

    address: NetworkAddress
    access: Access

    def obtain(self, address: Address, progress: Progress) -> None:
        """Connect the owner with the enclave."""
        started, told = time.monotonic(), ""
        while True:
            try:
                owner = open_stream(self.address, _TIMEOUT_S, self.access)
                break
            except (StateError, EnclaveLost) as error:
                if time.monotonic() - started > OWNER_S:
                    raise
                # A pod's log has no progress bar, and ten silent minutes say nothing of a wrong address.
                if error.code != told:
                    told = error.code
                    what = f"{self.address}: the model's owner does not answer ({told})"
                    progress.note(f"{what}; trying for {OWNER_S:g} s")
            _ask_state(address)  # an enclave that has ended waits for nobody
            progress.update("waiting for the model's owner", time.monotonic() - started, OWNER_S)
            time.sleep(1.0)
        enclave = open_stream(address, _TIMEOUT_S)
        try:
            relay(owner, enclave, _TIMEOUT_S)
        except OSError as exc:
            raise EnclaveLost(f"{self.address}: the release broke off ({exc.strerror or exc})") from exc
        finally:
            owner.close()
            enclave.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerDials(KeySource):
    """The owner comes by `model release --to`; here one only waits."""

    def obtain(self, address: Address, progress: Progress) -> None:
        """Wait until the enclave has the key."""
        started = time.monotonic()
        while time.monotonic() - started < OWNER_S:
            if _ask_state(address) is not State.MEASURED:
                return
            progress.update("waiting for the model's owner", time.monotonic() - started, OWNER_S)
            time.sleep(1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsRelease(KeySource):
    """AWS KMS, which this host calls: the answer opens in the enclave only.

    ``refused`` is where a document is kept for which KMS denied the key: KMS does not say why.
    """

    kms: Kms
    blob: bytes
    context: Mapping[str, str]
    refused: Path | None = None

    def obtain(self, address: Address, progress: Progress) -> None:
        """Fetch the enclave's document, have KMS decrypt for it, and hand the answer in."""
        progress.update("asking KMS to release the key", 0, _TIMEOUT_S)
        with ReleaseConnection(address, _TIMEOUT_S) as port:
            document = port.recipient()
        try:
            answer = self.kms.decrypt_for(document, self.blob, self.context)
        except AttestationError as error:
            if self.refused is not None:
                write_atomic(self.refused, document)
                pairs = "".join(f" --context {shlex.quote(f'{n}={v}')}" for n, v in self.context.items())
                error.hint = (
                    f"enclavectl policy kms-explain KEY-POLICY {shlex.quote(str(self.refused))} "
                    f"--principal ARN{pairs}"
                )
            raise
        with ReleaseConnection(address, _TIMEOUT_S) as port:
            port.bring_kms_answer(answer)


def _ask_state(address: Address) -> State:
    """Ask the enclave how far it is.

    Raises:
        StateError: it has ended.
    """
    with ReleaseConnection(address, _TIMEOUT_S) as port:
        return port.status().state


def bring_model(
    address: Address,
    sealed: SealedFile,
    source: KeySource,
    progress: Progress,
    *,
    boot_s: float,
    is_alive: Callable[[], bool],
) -> None:
    """Offer the model, obtain its key, bring its weights; return when the enclave serves.

    ``boot_s`` is how long nobody may listen at ``address``, the release port.

    Raises:
        EnclavectlError: a step failed. The enclave cannot be offered another model, so it is to be ended.
    """
    started = time.monotonic()
    while True:
        try:
            with ReleaseConnection(address, _TIMEOUT_S) as port:
                port.offer(sealed)
            break
        except (StateError, EnclaveLost):
            elapsed_s = time.monotonic() - started
            if elapsed_s > boot_s or not is_alive():
                raise
        progress.update("waiting for the enclave's release port", elapsed_s, boot_s)
        time.sleep(_RETRY_S)
    source.obtain(address, progress)
    with ReleaseConnection(address, _TIMEOUT_S) as port:
        if (status := port.status()).state is not State.KEYED:
            raise EnclaveError(
                f"{sealed.path}: the enclave did not get its key; it is still {status.state.name}",
                hint="the owner's log says why: enclavectl model release --log FILE",
                code="not-released",
            )
        port.bring_chunks(sealed.chunks())
