"""What most commands begin with: the configuration, the screen, the backend and the enclave."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave, EnclaveSpec, RunningEnclave
    from enclavectl.config import Config
    from enclavectl.exchange import Expectation
    from enclavectl.transport import Address

# How long a booting enclave may take to prove itself.
BOOT_S = 60.0
_LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One run of one command."""

    screen: Screen
    config: Config


def begin(output: OutputFormat, config_file: Path | None, flags: Mapping[str, object]) -> Invocation:
    """The screen and the checked configuration; ``flags`` has values by configuration key.

    Raises:
        UsageError: the configuration cannot be used.
    """
    from enclavectl.config import load_config

    config = load_config(path=config_file, environ=os.environ, flags=flags)
    return Invocation(screen=Screen(as_json=output is OutputFormat.JSON), config=config)


def spec_of(config: Config, *, name: str | None = None, debug: bool = False) -> EnclaveSpec:
    """What ``run`` and a fresh ``diagnose`` start.

    Raises:
        UsageError: there is no such model.
    """
    from enclavectl.backends.base import EnclaveSpec
    from enclavectl.models import find_model

    return EnclaveSpec(
        name=name,
        debug=debug,
        model=find_model(config.model, data_dir=config.data_dir),
        memory_mib=config.local.memory_mib,
        workers=config.local.workers,
        port_in=config.enclave.port_in,
        port_out=config.enclave.port_out,
    )


@contextmanager
def explain_boot_failure(backend: Backend, running: RunningEnclave) -> Iterator[None]:
    """An enclave that is lost while it boots says why on its console; put that into the error."""
    from enclavectl.errors import EnclaveError, EnclaveLost, StateError

    try:
        yield
    except (EnclaveLost, StateError) as exc:
        enclave = running.enclave
        # We may notice the end before the supervisor has written about it.
        deadline = time.monotonic() + _LAST_WORDS_S
        while "supervisor: the payload ended" not in (words := _console(backend, enclave)):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        lines = [line for line in words.splitlines() if line.strip()][-4:]
        raise EnclaveError(
            f"{enclave.name}: the payload ended; its last words: {' | '.join(lines)}",
            hint="is local.memory_mib (enclavectl config show) too small for the model?",
            code="payload-ended",
        ) from exc


def _console(backend: Backend, enclave: Enclave) -> str:
    return b"".join(backend.console(enclave, follow=False)).decode("utf-8", errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusting:
    """The options that say which evidence is enough."""

    policy: Path | None
    allow_debug: bool
    connect: str | None = None
    root: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a root that nothing would be checked against.

        Raises:
            UsageError: ``root`` without ``connect``: enclaves of this host are held to this host's root.
        """
        from enclavectl.errors import UsageError

        if self.root is not None and self.connect is None:
            raise UsageError(
                "--root: expected --connect as well: enclaves of this host have this host's root"
            )


def refuse_together(**options: object) -> None:
    """At most one of these options was given; the keywords are their names.

    Raises:
        UsageError: two contradict each other.
    """
    from enclavectl.errors import UsageError

    given = [f"--{name}" for name, value in options.items() if value]
    if len(given) > 1:
        raise UsageError(f"expected one of {' and '.join(given)}, found both", hint="leave one out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an enclave is reached and what it has to prove."""

    backend: str
    address: Address
    expectation: Expectation


def expectation_of(
    backend: Backend, enclaves: Callable[[], Sequence[Enclave]], trusting: Trusting
) -> Expectation:
    """What enclaves of this host's must prove: the user's policy, or what was measured when they started.

    Raises:
        UsageError: the policy cannot be used, or there is none and no enclave either.
    """
    from enclavectl.enclaves import load_policy
    from enclavectl.exchange import Expectation

    if trusting.policy is None:
        policy = backend.policy(enclaves(), allow_debug=trusting.allow_debug)
    else:
        policy = load_policy(trusting.policy, allow_debug=trusting.allow_debug)
    return Expectation(policy=policy, root=backend.trust_root())


def target_of(backend: Backend, enclave: Enclave, trusting: Trusting) -> Target:
    """An enclave of this host's, with what it has to prove.

    Raises:
        UsageError: the policy cannot be used.
    """
    expectation = expectation_of(backend, lambda: [enclave], trusting)
    return Target(backend=backend.name, address=enclave.address, expectation=expectation)


def target_elsewhere(connect: str, trusting: Trusting) -> Target:
    """An enclave that is known by its address only, so the policy has to come from the user.

    Raises:
        UsageError: there is no policy, or the address, the policy or the root cannot be used.
    """
    from enclavectl.attestation import Trust, TrustRoot, aws_nitro_root
    from enclavectl.enclaves import load_policy
    from enclavectl.errors import UsageError
    from enclavectl.exchange import Expectation
    from enclavectl.files import read_bounded
    from enclavectl.transport import parse_address

    if trusting.policy is None:
        raise UsageError(
            "--connect: expected --policy as well: nothing else says which enclave is the right one",
            hint="enclavectl describe NAME --policy-file writes one where the enclave was started",
        )
    if trusting.root is None:
        root = aws_nitro_root()
    else:
        pem = read_bounded(trusting.root, 64 * 1024, what="root certificate")
        root = TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name=str(trusting.root))
    policy = load_policy(trusting.policy, allow_debug=trusting.allow_debug)
    address = parse_address(connect)
    return Target(backend="remote", address=address, expectation=Expectation(policy=policy, root=root))
