"""The policy and the root against which a command verifies an enclave's document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.registry import load_policy
from enclavectl.config.load import Config, Profile
from enclavectl.errors import UsageError

if TYPE_CHECKING:
    from enclavectl.attestation import Policy
    from enclavectl.backends.base import Backend, Enclave
    from enclavectl.client.exchange import Expectation
    from enclavectl.models.weights import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationOptions:
    """The command line's options for verification.

    ``model`` is the one that the user named; None: the enclave's own is welcome.
    """

    policy: Path | None
    allow_debug: bool
    connect: str | None = None
    root: Path | None = None
    is_production: bool = False
    model: Model | None = None

    def __post_init__(self) -> None:
        """Refuse a root that would be ignored, and debug mode in production.

        Raises:
            UsageError: ``root`` without ``connect`` (enclaves of this host are verified with this host's
                root), or ``allow_debug`` in production.
        """
        if self.allow_debug and self.is_production:
            raise production_error("--unsafe-allow-debug")
        if self.root is not None and self.connect is None:
            raise UsageError(
                "--root: expected --connect as well: enclaves of this host have this host's root"
            )


def production_error(what: str) -> UsageError:
    """Make the error for ``what``, which a host with profile production refuses."""
    return UsageError(
        f"{what}: this host's profile is production, which refuses debug mode: it turns attestation off",
        hint="enclavectl config show says where profile comes from",
        code="production",
    )


def verification_options(
    config: Config,
    *,
    policy: Path | None = None,
    allow_debug: bool,
    connect: str | None = None,
    root: Path | None = None,
    model: Model | None = None,
) -> VerificationOptions:
    """Complete the options of one command from the configuration.

    Raises:
        UsageError: the options contradict each other, or the host's profile.
    """
    return VerificationOptions(
        policy=policy or config.policy,
        allow_debug=allow_debug,
        connect=connect,
        root=root,
        is_production=config.profile is Profile.PRODUCTION,
        model=model,
    )


def expectation_of(
    backend: Backend, enclaves: Callable[[], Sequence[Enclave]], options: VerificationOptions
) -> Expectation:
    """Return what enclaves of this host must prove: the user's policy, or the registers measured at start.

    Raises:
        UsageError: the policy cannot be used, or there is neither a policy nor an enclave.
    """
    # Imported late: a session's cryptography takes longer to import than a local enclave takes to launch.
    from enclavectl.client.exchange import Expectation

    if options.policy is None:
        policy = backend.policy(enclaves(), allow_debug=options.allow_debug)
    else:
        policy = read_policy(options.policy, options)
    card = None if options.model is None else options.model.card
    return Expectation(policy=policy, root=backend.trust_root(), card=card)


def check_policy(options: VerificationOptions) -> None:
    """Read the user's policy, if there is one, before anything starts.

    Raises:
        UsageError: the policy cannot be used.
    """
    if options.policy is not None:
        read_policy(options.policy, options)


def read_policy(path: Path, options: VerificationOptions) -> Policy:
    """Read the policy in a file.

    Raises:
        UsageError: it cannot be read, or it allows debug mode on a host for production.
    """
    policy = load_policy(path, allow_debug=options.allow_debug)
    if policy.unsafe_allow_debug and options.is_production:
        raise production_error(f"{path}: unsafe_allow_debug")
    return policy
