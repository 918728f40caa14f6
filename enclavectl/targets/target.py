"""The enclave that a command talks to: its address and the proof that it must give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enclavectl.backends.registry import find_enclave, only_running, require_running
from enclavectl.errors import UsageError
from enclavectl.net.access import NO_ACCESS, Access
from enclavectl.targets.verification import VerificationOptions, expectation_of, read_policy

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave, RunningEnclave
    from enclavectl.client.exchange import Expectation
    from enclavectl.net.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An enclave's address and the proof that it must give; ``running`` if this command started it.

    ``lock_sha256`` is of the lock that the enclave's image was launched with, as far as this host knows it.
    """

    backend: str
    address: Address
    expectation: Expectation
    running: RunningEnclave | None = None
    access: Access = NO_ACCESS
    lock_sha256: str | None = None


def choose_running(backend: Backend, name: str | None) -> Enclave | None:
    """Return the running enclave of that name; without a name, the only running one, or None.

    Raises:
        StateError: no enclave has that name, it does not run, or several run and ``name`` is None.
    """
    if name is None:
        return only_running(backend.enclaves())
    return require_running(find_enclave(backend, name))


def target_of(
    backend: Backend, enclave: Enclave, options: VerificationOptions, running: RunningEnclave | None = None
) -> Target:
    """Make the target for an enclave of this host; ``running`` if this command started it.

    Raises:
        UsageError: the policy cannot be used.
    """
    # Every enclave of the same image passes the policy, and another one may serve this one's address.
    expectation = replace(expectation_of(backend, lambda: [enclave], options), module_id=enclave.module_id)
    return Target(
        backend=backend.name,
        address=enclave.address,
        expectation=expectation,
        running=running,
        lock_sha256=enclave.lock_sha256,
    )


def target_elsewhere(connect: str, options: VerificationOptions, access: Access = NO_ACCESS) -> Target:
    """Make the target for an enclave known only by its address; the user must provide the policy.

    Raises:
        UsageError: there is no policy, or the address, the policy or the root cannot be used, or the address
            has no use for ``access``.
    """
    # Imported late: a session's cryptography takes longer to import than a local enclave takes to launch.
    from enclavectl.attestation.trust import read_root, root_for
    from enclavectl.client.exchange import Expectation
    from enclavectl.net.address import parse_address

    if options.policy is None:
        raise UsageError(
            "--connect: expected --policy as well: nothing else says which enclave is the right one",
            hint="enclavectl describe NAME --policy-file writes one where the enclave was started",
        )
    policy = read_policy(options.policy, options)
    root = root_for(policy, None if options.root is None else read_root(options.root))
    address = parse_address(connect)
    access.require_use(address)
    expectation = Expectation(policy=policy, root=root)
    return Target(backend="remote", address=address, expectation=expectation, access=access)
