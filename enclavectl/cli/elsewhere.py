"""The enclave elsewhere that a command line means: ``--connect``, ``--remote``, or the default remote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enclavectl.cli.invocation import Invocation, refuse_together
from enclavectl.cli.network_options import NetworkFlags
from enclavectl.config.load import SourceKind
from enclavectl.errors import UsageError
from enclavectl.targets.remote_store import RemoteStore
from enclavectl.targets.target import Target, target_elsewhere
from enclavectl.targets.verification import VerificationOptions

FindTarget = Callable[[], Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """How to find an enclave elsewhere, and the file of the policy that it must satisfy."""

    find: FindTarget
    policy: Path | None


def find_elsewhere(
    invocation: Invocation,
    verification: VerificationOptions,
    *,
    remote: str | None,
    network: NetworkFlags,
    is_here: bool,
) -> Elsewhere | None:
    """Return how to find the enclave elsewhere that is meant; None for one of this host.

    ``is_here`` is whether the command line names an enclave of this host. Without that, without a name, and
    without a flag for the backend, the model or the policy, the default remote is meant, if there is one.

    Raises:
        UsageError: the options contradict each other.
        StateError: there is no such remote.
    """
    connect = verification.connect
    refuse_together(connect=connect, remote=remote)
    access = network.read(connect, needs="--connect in place of --remote" if remote else "--connect as well")
    if connect is not None:
        return Elsewhere(
            find=lambda: target_elsewhere(connect, verification, access), policy=verification.policy
        )
    store = RemoteStore(invocation.config.state_dir)
    if remote is not None:
        _refuse_policy(invocation, remote)
        found = store.find(remote)
    else:
        chosen = None if is_here or _names_backend(invocation) else store.default()
        if chosen is None:
            return None
        found = chosen
    invocation.screen.note(
        f"using the remote {found.name} at {found.address}" + ("" if remote else ", which is the default")
    )
    # Found anew each time: an update in the middle of a long batch removes the copies of before.
    return Elsewhere(find=lambda: store.target(found.name, verification), policy=found.files["policy"])


def _refuse_policy(invocation: Invocation, remote: str) -> None:
    """Refuse ``--policy`` beside a remote; one in the configuration file is for other enclaves.

    Raises:
        UsageError: it was given.
    """
    if invocation.config.sources["policy"].kind is SourceKind.FLAG:
        raise UsageError(
            "--policy: expected none beside --remote, which has its own",
            hint=f"enclavectl remote update {remote} --policy FILE replaces it",
        )


def _names_backend(invocation: Invocation) -> bool:
    sources = invocation.config.sources
    return any(sources[key].kind is SourceKind.FLAG for key in ("backend", "model", "policy"))
