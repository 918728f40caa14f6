"""``enclavectl attest``: ask an enclave for its evidence, keep it, and judge it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclavectl.backends.registry import choose_backend, find_enclave, load_policy, require_running
from enclavectl.cli import options
from enclavectl.cli.evidence_options import LockPath
from enclavectl.cli.invocation import Invocation, begin, refuse_together
from enclavectl.cli.network_options import NO_NETWORK, NetworkFlags
from enclavectl.cli.option_groups import spreads_groups
from enclavectl.cli.options import OutputFormat
from enclavectl.config.load import Profile
from enclavectl.errors import UsageError
from enclavectl.net.access import NO_ACCESS, Access
from enclavectl.net.address import parse_address
from enclavectl.targets.remote_store import RemoteStore
from enclavectl.targets.verification import production_error

if TYPE_CHECKING:
    from enclavectl.attestation import Policy, Root
    from enclavectl.client.collection import CollectedEvidence
    from enclavectl.evidence.verification import PolicySource, Verification
    from enclavectl.net.address import Address

_SCHEMES = ("unix:", "vsock:", "hybrid:", "wss://", "ws://", "tls:", "tcp:")

TargetName = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET]",
        help="A running enclave, or an address: wss://HOST/v1, tls:HOST:PORT, vsock:CID:PORT, unix:PATH.",
    ),
]
EvidenceOut = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="Where to keep the evidence; a new file.")
]
PolicyPath = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="A policy: what the enclave must prove; default: the configured policy, else none.",
    ),
]
RootPath = Annotated[
    Path | None,
    typer.Option("--root", metavar="FILE", help="With an address: a root (PEM) in place of AWS's."),
]
AnswerTime = Annotated[
    int,
    typer.Option("--timeout", min=1, max=3600, metavar="SECONDS", help="How long to wait for the evidence."),
]


@spreads_groups
def attest(
    target: TargetName = None,
    remote: options.RemoteName = None,
    out: EvidenceOut = Path("evidence.json"),
    policy: PolicyPath = None,
    lock: LockPath = None,
    root: RootPath = None,
    network: NetworkFlags = NO_NETWORK,
    timeout: AnswerTime = 30,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Ask an enclave for its evidence, keep it, and judge it.

    One challenge is all that is sent. The evidence is kept whatever the verdict. Without a policy the result
    is NOT JUDGED: chain and signature are checked, but the enclave may run any code. Exit code 4 if a step
    failed; enclavectl verify judges the file again, on any machine.

    Examples:
      enclavectl attest first                               keep evidence.json
      enclavectl attest first --policy p.yaml --out e.json  judge it as well
      enclavectl attest vsock:16:5005 --lock lock.json      an enclave anywhere
      enclavectl attest --remote lab                        by its kept policy
    """
    invocation = begin(output, config, {"backend": backend})
    refuse_together(policy=policy, lock=lock)
    refuse_together(remote=remote, root=root)
    # Imported here: the parser of the command line needs none of it.
    from enclavectl.cli.judgement_view import show_verification  # noqa: PLC0415 - see above
    from enclavectl.client.collection import collect_evidence  # noqa: PLC0415 - see above
    from enclavectl.evidence.keeping import check_new  # noqa: PLC0415 - see above

    check_new("--out", out)
    if remote is not None:
        place = _remote_place(invocation, remote, target, network)
    else:
        place = _place(invocation, target, root, network)
    demand = _demand(invocation, policy or (None if lock else place.policy), lock, place.root)
    if place.is_elsewhere and lock is None:
        place = _place_under(place, root, demand)
    found = collect_evidence(place.address, timeout_s=timeout, access=place.access)
    verification = _keep_and_judge(found, place, demand, out)
    invocation.screen.note(f"evidence kept in {out}")
    show_verification(invocation.screen, verification, name=str(out), may_lack_policy=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demand:
    """What is enough, and where that was written. ``text`` is a policy's; a lock has only its hash."""

    policy: Policy | None
    text: str | None = None
    lock_sha256: str | None = None

    @property
    def source(self) -> PolicySource | None:
        """Where ``policy`` was written."""
        from enclavectl.evidence.verification import PolicySource  # noqa: PLC0415 - see attest

        if self.policy is None:
            return None
        return PolicySource.FILE if self.lock_sha256 is None else PolicySource.LOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the enclave is, its root, and its module id if it is an enclave of this host.

    ``access`` is what its gateway demands, ``policy`` the one that is kept for a remote. ``is_elsewhere``: it
    is known by its address alone. ``lock_sha256`` is of the lock that this host launched its image with.
    """

    address: Address
    root: Root
    module_id: str | None = None
    access: Access = NO_ACCESS
    policy: Path | None = None
    is_elsewhere: bool = False
    lock_sha256: str | None = None


def _demand(invocation: Invocation, policy: Path | None, lock: Path | None, root: Root) -> _Demand:
    from enclavectl.attestation import parse_policy  # noqa: PLC0415 - loads PyYAML
    from enclavectl.cli.policy_arguments import read_policy_text  # noqa: PLC0415 - with it
    from enclavectl.cli.verify_inputs import policy_of_lock  # noqa: PLC0415 - with it

    if lock is not None:
        wanted, sha256_of_lock = policy_of_lock(lock, root.trust)
        return _Demand(policy=wanted, lock_sha256=sha256_of_lock)
    path = policy or invocation.config.policy
    if path is None:
        return _Demand(policy=None)
    text = read_policy_text(path)
    found = parse_policy(text, source=str(path))
    if found.unsafe_allow_debug and invocation.config.profile is Profile.PRODUCTION:
        raise production_error(f"{path}: unsafe_allow_debug")
    return _Demand(policy=found, text=text)


def _remote_place(invocation: Invocation, remote: str, target: str | None, network: NetworkFlags) -> _Place:
    if target is not None:
        raise UsageError("expected one of TARGET and --remote, found both", hint="leave one out")
    network.read(None, needs="an address in place of --remote")
    found = RemoteStore(invocation.config.state_dir).find(remote)
    return _Place(
        address=parse_address(found.address),
        root=found.root(load_policy(found.files["policy"], allow_debug=False)),
        access=found.access(),
        policy=found.files["policy"],
    )


def _place(
    invocation: Invocation,
    target: str | None,
    root: Path | None,
    network: NetworkFlags,
) -> _Place:
    from enclavectl.attestation.trust import read_root, root_for  # noqa: PLC0415 - loads OpenSSL

    if target is None:
        raise UsageError(
            "attest: expected an enclave's name, an address, or --remote NAME, found none",
            hint="enclavectl list shows the names",
        )
    if target.startswith(_SCHEMES) or "://" in target:  # no name of an enclave has that
        trusted = root_for(None, None if root is None else read_root(root))
        address = parse_address(target)
        access = network.read(target)
        access.require_use(address)
        return _Place(address=address, root=trusted, access=access, is_elsewhere=True)
    network.read(None, needs="an address as well")
    if root is not None:
        raise UsageError("--root: expected an address as well: enclaves of this host have this host's root")
    chosen = choose_backend(invocation.config, invocation.screen)
    enclave = require_running(find_enclave(chosen, target))
    return _Place(
        address=enclave.address,
        root=chosen.trust_root(),
        module_id=enclave.module_id,
        lock_sha256=enclave.lock_sha256,
    )


def _place_under(place: _Place, root: Path | None, demand: _Demand) -> _Place:
    """Return the place with the root that the user's policy asks for, which may be the emulator's."""
    from enclavectl.attestation.trust import read_root, root_for  # noqa: PLC0415 - loads OpenSSL

    return replace(place, root=root_for(demand.policy, None if root is None else read_root(root)))


def _keep_and_judge(found: CollectedEvidence, place: _Place, demand: _Demand, out: Path) -> Verification:
    from enclavectl.evidence.examination import examine  # noqa: PLC0415 - see attest
    from enclavectl.evidence.file import EvidenceFile, RootName  # noqa: PLC0415 - see attest
    from enclavectl.evidence.keeping import write_evidence  # noqa: PLC0415 - see attest
    from enclavectl.evidence.verification import Case  # noqa: PLC0415 - see attest

    evidence = EvidenceFile(
        document=found.evidence.document,
        key_config=found.evidence.key_config,
        nonce=found.nonce,
        requested_at=found.requested_at,
        root=RootName.of(place.root),
        lock_sha256=demand.lock_sha256 or place.lock_sha256,
        policy=demand.text,
        policy_sha256=None if demand.text is None else sha256(demand.text.encode()).hexdigest(),
    )
    write_evidence(out, evidence)
    return examine(
        Case(
            document=evidence.document,
            root=place.root,
            policy=demand.policy,
            at=found.received_at,
            nonce=found.nonce,
            evidence=evidence,
            module_id=place.module_id,
            policy_source=demand.source,
            policy_sha256=demand.lock_sha256 or evidence.policy_sha256,
        )
    )
