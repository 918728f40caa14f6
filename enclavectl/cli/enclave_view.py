"""One enclave on the screen and as JSON, with its attested facts: for `run` and `describe`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from enclave_payload.release import State
from enclavectl.attestation import VerifiedDocument
from enclavectl.backends.base import Backend, Enclave
from enclavectl.backends.machine import machine_of
from enclavectl.backends.state import EnclaveState
from enclavectl.cli.invocation import Invocation
from enclavectl.client.exchange import Expectation
from enclavectl.client.session import Client
from enclavectl.errors import EnclavectlError
from enclavectl.results.wording import MODEL_PINNED
from enclavectl.trust import LOCAL_ROOT, Trust
from enclavectl.weights.release_port import ReleaseConnection, release_address

ENCLAVE_SCHEMA = "enclavectl.enclave/1"
# Seconds. The enclave was verified at its start, so it only has to answer.
_ATTEST_S = 10.0
# Its release port takes one connection at a time.
_STATUS_S = 2.0
_WAITS_FOR = {
    State.EMPTY: "an offer, from the command that started it",
    State.MEASURED: "its key, from the model's owner or KMS",
    State.KEYED: "its weights, from the command that started it",
    State.SERVING: None,
}
# It boots, or its release port is busy with the owner or the weights.
_SILENT = "an answer of its release port"
# nitro-cli: the console of an enclave is its CID plus this, at the hypervisor's CID 0.
_CONSOLE_PORT = 10000


def attested_json(document: VerifiedDocument) -> dict[str, object]:
    """Return the object under ``attested``: the facts that an enclave has proved."""
    return {
        "trust": str(document.trust),
        "module_id": document.module_id,
        "model_pinned": document.model_pinned,
        "pcrs": {str(index): value.hex() for index, value in document.pcrs.items()},
    }


def attest(backend: Backend, enclave: Enclave) -> Mapping[str, object] | None:
    """Verify a running enclave; return its attested facts or the error; None if it cannot be asked."""
    if enclave.state is not EnclaveState.RUNNING or (enclave.measured is None and not enclave.debug):
        return None
    try:
        policy = backend.policy([enclave], allow_debug=enclave.debug)
        expectation = Expectation(policy=policy, root=backend.trust_root(), module_id=enclave.module_id)
        with Client.connect(enclave.address, expectation, timeout_s=_ATTEST_S) as client:
            return attested_json(client.enclave.document)
    except EnclavectlError as error:
        return {"error": {"code": error.code, "message": error.message}}


@dataclass(frozen=True, slots=True)
class WeightsState:
    """How far an enclave is that started without weights: its own words, unproven. None: it says nothing."""

    state: State | None

    @property
    def waiting_for(self) -> str | None:
        """What it waits for; None once it serves."""
        return _SILENT if self.state is None else _WAITS_FOR[self.state]

    def to_json(self) -> dict[str, str | None]:
        """Return the object under ``weights``."""
        return {
            "state": None if self.state is None else self.state.name,
            "waiting_for": self.waiting_for,
        }

    def __str__(self) -> str:
        said = "unknown" if self.state is None else self.state.name
        return said if self.waiting_for is None else f"{said}, waits for {self.waiting_for}"


def weights_state(enclave: Enclave) -> WeightsState | None:
    """Ask a running enclave how far it is; None if its weights are in its image, or it has ended."""
    if not enclave.is_sealed or enclave.state is EnclaveState.DEAD:
        return None
    try:
        with ReleaseConnection(release_address(enclave.address), _STATUS_S) as port:
            return WeightsState(port.status().state)
    except EnclavectlError:
        return WeightsState(None)


def show_enclave(
    invocation: Invocation, backend: Backend, enclave: Enclave, attested: Mapping[str, object] | None
) -> None:
    """Show one enclave: facts, measured and attested PCRs, its connections, and how far its weights are."""
    screen, weights = invocation.screen, weights_state(enclave)
    outbound = backend.outbound_address(invocation.config.enclave.port_out)
    connections = list(_connections(enclave, str(outbound)))
    if screen.as_json:
        screen.result(
            {
                "schema": ENCLAVE_SCHEMA,
                "trust": str(enclave.trust),
                "backend": enclave.backend,
                "enclave": enclave.to_json(),
                "attested": attested,
                "weights": None if weights is None else weights.to_json(),
                "connections": [
                    {"from": who, "to": where, "for": purpose} for who, where, purpose in connections
                ],
            }
        )
        return
    screen.trust(str(enclave.trust), LOCAL_ROOT if machine_of(enclave) is None else None)
    rows = [*_facts(enclave), *_registers(enclave, attested)]
    if weights is not None:
        rows.append(("weights", str(weights)))
    screen.facts(rows)
    screen.table(("WHO DIALS", "WHOM", "FOR"), connections)
    if enclave.debug and enclave.trust is not Trust.EMULATED:
        screen.note(
            "in debug mode these PCRs are what was measured; the enclave attests PCR0, PCR1 and PCR2 as zeros"
        )


def _facts(enclave: Enclave) -> Iterator[tuple[str, str]]:
    yield "name", enclave.name
    yield "id", enclave.enclave_id
    yield "state", str(enclave.state) + ("  (DEBUG MODE)" if enclave.debug else "")
    if enclave.is_owned:
        yield "owned by", "the command that started it, which ends it; other commands do not use it"
    yield "backend", enclave.backend
    if enclave.model_id is not None:
        yield "model", f"{enclave.model_id}, SHA-256 {enclave.model_sha256}"
    if enclave.started is not None:
        yield "started", enclave.started.isoformat(timespec="seconds")
    yield "address", str(enclave.address)
    if (machine := machine_of(enclave)) is not None:
        if machine.lock_sha256 is not None:
            yield "lock", f"SHA-256 {machine.lock_sha256}"
        yield "CID", "" if machine.cid is None else str(machine.cid)
        more = (
            ""
            if machine.asked_memory_mib in (None, enclave.memory_mib)
            else f" (asked: {machine.asked_memory_mib})"
        )
        yield "memory", f"{enclave.memory_mib} MiB{more}"
        yield (
            "CPUs",
            f"{machine.cpus}" + (f": {', '.join(map(str, machine.cpu_ids))}" if machine.cpu_ids else ""),
        )
        if machine.image is not None:
            yield "image", str(machine.image)
        if machine.owner is not None:
            yield "owner", machine.owner


def _registers(enclave: Enclave, attested: Mapping[str, object] | None) -> Iterator[tuple[str, str]]:
    """Yield the registers measured before the start and those attested, or only nitro-cli's."""
    measured = enclave.pcrs()
    for index, value in measured.items():
        yield f"PCR{index}", value
    if (machine := machine_of(enclave)) is not None and not measured:
        for name, value in machine.nitro_cli_pcrs.items():
            yield name, f"{value} (nitro-cli's word for a file: no evidence)"
    if attested and isinstance(pcrs := attested.get("pcrs"), dict):
        shown = {index: pcrs.get(index) for index in measured or ("0", "1", "2")}
        if shown == measured:
            yield "attested", f"the same registers, trust {attested['trust']}"
        elif attested["trust"] == Trust.DEBUG:
            yield "attested", "zeros: debug mode, so nothing proves the registers above"
        else:
            for index, register in shown.items():
                yield f"PCR{index}", f"{register} (attested)"
        yield "model pinned", MODEL_PINNED[attested["model_pinned"] is True]
    elif attested and isinstance(error := attested.get("error"), dict):
        yield "attested", f"nothing: {error.get('message')}"


def _connections(enclave: Enclave, outbound: str) -> Iterator[tuple[str, str, str]]:
    """Yield the connections with caller, address and purpose, since CIDs are easily confused."""
    machine = machine_of(enclave)
    yield "clients on the parent", str(enclave.address), "pictures (diagnose, send)"
    if machine is None:
        yield "the enclave", outbound, "answers (listen)"
        return
    port = outbound.removesuffix(".sock").replace("_", ":").replace("-", ":").rpartition(":")[2]
    yield "the enclave", f"CID 3 (the parent) port {port}; listen binds {outbound}", "answers (listen)"
    if enclave.debug and machine.cid is not None and enclave.trust is not Trust.EMULATED:
        yield "nitro-cli console", f"CID 0 (the hypervisor) port {machine.cid + _CONSOLE_PORT}", "the console"
