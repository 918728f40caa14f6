"""The enclave that a command starts or talks to, and what it has to prove."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclavectl.attestation import Policy
    from enclavectl.backends.base import Backend, Enclave, EnclaveSpec, RunningEnclave
    from enclavectl.cli.screen import Screen
    from enclavectl.client.exchange import Expectation
    from enclavectl.client.session import Client
    from enclavectl.config.load import Config
    from enclavectl.errors import UsageError
    from enclavectl.net.address import Address

# How long a booting enclave may take to prove itself.
BOOT_S = 60.0
_LAST_WORDS_S = 2.0
_RETRY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line says of an enclave to be started."""

    name: str | None = None
    debug: bool = False
    image: Path | None = None


def spec_of(config: Config, wanted: Wanted) -> EnclaveSpec:
    """What ``run`` and a fresh ``diagnose`` start, on the backend that ``config`` names.

    Raises:
        UsageError: there is no such model, or an image for a backend that has none.
    """
    from enclavectl.backends.base import EnclaveSpec
    from enclavectl.backends.registry import resolve_backend
    from enclavectl.config.choices import BackendChoice
    from enclavectl.errors import UsageError
    from enclavectl.models.find import find_model

    machine = config.enclave
    if resolve_backend(config) is BackendChoice.LOCAL:
        if wanted.image is not None:
            raise UsageError(
                f"{wanted.image}: the local backend runs no images: its payload is a process",
                hint="leave it out, or use --backend nitro",
            )
        return EnclaveSpec(
            name=wanted.name,
            debug=wanted.debug,
            model=find_model(config.model, data_dir=config.data_dir),
            memory_mib=config.local.memory_mib,
            workers=config.local.workers,
            port_in=machine.port_in,
            port_out=machine.port_out,
        )
    return EnclaveSpec(
        name=wanted.name,
        debug=wanted.debug,
        image=wanted.image or machine.eif,
        memory_mib=machine.memory_mib,
        cpus=machine.cpus,
        cid=machine.cid,
        port_in=machine.port_in,
        port_out=machine.port_out,
    )


@contextmanager
def explain_boot_failure(backend: Backend, running: RunningEnclave) -> Iterator[None]:
    """An enclave that is lost while it boots says why on its console; put that into the error."""
    from enclavectl.errors import EnclaveError, EnclaveLost, StateError

    try:
        yield
    except (EnclaveLost, StateError) as exc:
        enclave = running.enclave
        # We may notice the end before whoever keeps the enclave does.
        deadline = time.monotonic() + _LAST_WORDS_S
        while running.is_alive():
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        if enclave.backend != "local" and not enclave.debug:
            raise EnclaveError(
                f"{enclave.name}: it ended before it proved itself; only debug mode would show why",
                hint="enclavectl run --debug, then enclavectl logs; is enclave.memory_mib enough?",
                code="payload-ended",
            ) from exc
        lines = [line for line in _console(backend, enclave).splitlines() if line.strip()][-4:]
        raise EnclaveError(
            f"{enclave.name}: the payload ended; its last words: {' | '.join(lines)}",
            hint=f"is {'local' if enclave.backend == 'local' else 'enclave'}.memory_mib "
            "(enclavectl config show) too small for the model?",
            code="payload-ended",
        ) from exc


def open_session(target: Target, screen: Screen, *, timeout_s: float) -> Client:
    """A session with the target, verified. One that this command has started gets the time to boot.

    Raises:
        AttestationError: the evidence was refused; only the challenge was sent.
        EnclaveError: the enclave was lost, busy, or broke the protocol.
        StateError: nothing listens at its address.
    """
    from enclavectl.client.session import Client
    from enclavectl.errors import EnclaveLost, StateError

    start = time.monotonic()
    running = target.running
    ready_s = timeout_s if running is None else BOOT_S
    while True:
        try:
            return Client.connect(target.address, target.expectation, timeout_s=timeout_s, ready_s=ready_s)
        except (StateError, EnclaveLost):
            elapsed_s = time.monotonic() - start
            if running is None or elapsed_s > running.patience_s or not running.is_alive():
                raise
        screen.update("waiting for the payload to prove itself", elapsed_s, running.patience_s)
        time.sleep(_RETRY_S)


def _console(backend: Backend, enclave: Enclave) -> str:
    return b"".join(backend.console(enclave, follow=False)).decode("utf-8", errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationOptions:
    """The options that say which evidence is enough."""

    policy: Path | None
    allow_debug: bool
    connect: str | None = None
    root: Path | None = None
    is_production: bool = False

    def __post_init__(self) -> None:
        """Refuse a root that nothing would be checked against, and debug mode where it must not be.

        Raises:
            UsageError: ``root`` without ``connect``: enclaves of this host are held to this host's root; or
                ``allow_debug`` in production.
        """
        from enclavectl.errors import UsageError

        if self.allow_debug and self.is_production:
            raise production_error("--unsafe-allow-debug")
        if self.root is not None and self.connect is None:
            raise UsageError(
                "--root: expected --connect as well: enclaves of this host have this host's root"
            )


def production_error(what: str) -> UsageError:
    """The error for something that a host for production does not do."""
    from enclavectl.errors import UsageError

    return UsageError(
        f"{what}: this host's profile is production, which refuses debug mode: it turns attestation off",
        hint="enclavectl config show says where profile comes from",
        code="production",
    )


def trusting_of(
    config: Config,
    *,
    policy: Path | None = None,
    allow_debug: bool,
    connect: str | None = None,
    root: Path | None = None,
) -> VerificationOptions:
    """The options of one command with what the configuration says where they are silent.

    Raises:
        UsageError: they contradict each other, or the host's profile.
    """
    from enclavectl.config.load import Profile

    return VerificationOptions(
        policy=policy or config.policy,
        allow_debug=allow_debug,
        connect=connect,
        root=root,
        is_production=config.profile is Profile.PRODUCTION,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an enclave is reached and what it has to prove; ``running`` if this command started it."""

    backend: str
    address: Address
    expectation: Expectation
    running: RunningEnclave | None = None


def expectation_of(
    backend: Backend, enclaves: Callable[[], Sequence[Enclave]], verification: VerificationOptions
) -> Expectation:
    """What enclaves of this host's must prove: the user's policy, or what was measured when they started.

    Raises:
        UsageError: the policy cannot be used, or there is none and no enclave either.
    """
    from enclavectl.client.exchange import Expectation

    if verification.policy is None:
        policy = backend.policy(enclaves(), allow_debug=verification.allow_debug)
    else:
        policy = _load_policy(verification.policy, verification)
    return Expectation(policy=policy, root=backend.trust_root())


def choose_running(backend: Backend, name: str | None) -> Enclave | None:
    """The enclave of that name, which has to run; without a name the only one that runs, or None.

    Raises:
        StateError: none of that name, or it does not run, or several do and none was named.
    """
    from enclavectl.backends.registry import find_enclave, only_running, require_running

    if name is None:
        return only_running(backend.enclaves())
    return require_running(find_enclave(backend, name))


def target_of(
    backend: Backend,
    enclave: Enclave,
    verification: VerificationOptions,
    running: RunningEnclave | None = None,
) -> Target:
    """An enclave of this host's, with what it has to prove; ``running`` if this command started it.

    Raises:
        UsageError: the policy cannot be used.
    """
    expectation = expectation_of(backend, lambda: [enclave], verification)
    return Target(backend=backend.name, address=enclave.address, expectation=expectation, running=running)


def target_elsewhere(connect: str, verification: VerificationOptions) -> Target:
    """An enclave that is known by its address only, so the policy has to come from the user.

    Raises:
        UsageError: there is no policy, or the address, the policy or the root cannot be used.
    """
    from enclavectl.attestation import Trust, TrustRoot, aws_nitro_root
    from enclavectl.client.exchange import Expectation
    from enclavectl.errors import UsageError
    from enclavectl.files import read_bounded
    from enclavectl.net.address import parse_address

    if verification.policy is None:
        raise UsageError(
            "--connect: expected --policy as well: nothing else says which enclave is the right one",
            hint="enclavectl describe NAME --policy-file writes one where the enclave was started",
        )
    if verification.root is None:
        root = aws_nitro_root()
    else:
        pem = read_bounded(verification.root, 64 * 1024, what="root certificate")
        root = TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name=str(verification.root))
    policy = _load_policy(verification.policy, verification)
    address = parse_address(connect)
    return Target(backend="remote", address=address, expectation=Expectation(policy=policy, root=root))


def check_policy(verification: VerificationOptions) -> None:
    """The user's policy, if there is one, can be used: said before anything is started or waited for.

    Raises:
        UsageError: it cannot.
    """
    if verification.policy is not None:
        _load_policy(verification.policy, verification)


def _load_policy(path: Path, verification: VerificationOptions) -> Policy:
    from enclavectl.backends.registry import load_policy

    policy = load_policy(path, allow_debug=verification.allow_debug)
    if policy.unsafe_allow_debug and verification.is_production:
        raise production_error(f"{path}: unsafe_allow_debug")
    return policy
