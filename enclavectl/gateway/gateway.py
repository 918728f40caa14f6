"""The gateway: who is let in, which enclave they get, and when everything ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus

from websockets.http11 import Request

from enclavectl.errors import EnclavectlError, UsageError
from enclavectl.gateway.admission import ANONYMOUS, Admission, Identity, OverBound
from enclavectl.gateway.announced import Leases
from enclavectl.gateway.door import Door
from enclavectl.gateway.frames_end import FramesEnd
from enclavectl.gateway.identity import certificate_identity, forwarded_address
from enclavectl.gateway.link import connect_link
from enclavectl.gateway.openings import Openings
from enclavectl.gateway.probes import keep_probing
from enclavectl.gateway.routing import Enclave, Health, NoEnclave, Routes
from enclavectl.gateway.session import Guest, Session, SessionContext
from enclavectl.gateway.settings import GatewaySettings
from enclavectl.gateway.tally import Carrier, Outcome, Tally
from enclavectl.gateway.tokens import TokenFile
from enclavectl.gateway.upgrade import HttpReply, Upgrade, busy, read_request, unknown_release
from enclavectl.gateway.websocket_end import Decide, WebSocketEnd
from enclavectl.net.carriage import RefusalCode

# How often files are looked at: a revoked token, a new certificate and a new enclave count within this.
_FILES_S = 1.0
_UNAUTHORIZED = HttpReply(
    status=HTTPStatus.UNAUTHORIZED,
    text="expected a token that is valid here (Authorization: Bearer), or a client certificate\n",
    headers=(("WWW-Authenticate", "Bearer"),),
)
SESSION_SCHEMA = "enclavectl.gateway-session/1"


class Gateway:
    """Everything that runs while the gateway does. ``record`` takes one object a session; ``note`` a fact."""

    def __init__(
        self,
        settings: GatewaySettings,
        record: Callable[[Mapping[str, object]], None],
        note: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._record = record
        self._tell = note
        self._tokens = TokenFile(settings.tokens)
        self._tasks: set[asyncio.Task[None]] = set()
        self._probes: dict[Enclave, asyncio.Task[None]] = {}
        self._files_due = 0.0
        self._problems: list[str] = []
        self._emptied = asyncio.Event()
        self._executor = ThreadPoolExecutor(self._limits.handshakes, thread_name_prefix="connect")
        self._is_accepting = True
        self.is_stopping = False
        self._leases = Leases()
        self.tally = Tally()
        self.routes = Routes(self._limits.connections_per_enclave)
        self.admission = Admission(self._limits)
        self.openings = Openings(self._limits.handshakes)
        self.sessions: dict[Session, Door] = {}
        self._context = SessionContext(
            limits=self._limits,
            tally=self.tally,
            clock=time.monotonic,
            route=self._route,
            ended=self._session_ended,
        )

    @property
    def is_ready(self) -> bool:
        """True while new clients can be served."""
        return self.routes.is_ready and not self.is_stopping

    def start(self) -> None:
        """Read the files, and begin to challenge the enclaves.

        Raises:
            UsageError: a file cannot be used, or the settings are unsafe.
        """
        self._tokens.refresh()
        self._settings.check(has_tokens=self._tokens.has_had_tokens)
        self._update_routes()

    def note(self, text: str) -> None:
        """Tell the operator a fact, where anybody listens: sweeps and probes go on also on a full disk."""
        try:
            self._tell(text)
        except OSError:
            self.tally.lost_records += 1

    async def stop(self) -> None:
        """End the probes and whatever is left."""
        tasks = [*self._probes.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in list(self.sessions):
            session.refuse(RefusalCode.STOPPING, Outcome.STOPPING)
        self._executor.shutdown(wait=False, cancel_futures=True)

    # Letting in

    def begin_frames(self, door: Door, end: FramesEnd) -> None:
        """Give raw frames their session. They have no place for a token, so a certificate counts."""
        self.tally.observe_handshake(Carrier.FRAMES, time.monotonic() - door.opening.began_at)
        identity = certificate_identity(door.peer_der, door.peer_fields)
        guest = Guest(carrier=Carrier.FRAMES, identity=identity, address=door.address)
        session = self._new_session(door, end, guest)
        end.begin(session)
        if identity is ANONYMOUS and self._needs_identity:
            session.refuse(RefusalCode.PROTOCOL, Outcome.UNAUTHORIZED)
        elif not self._is_accepting:
            session.refuse(RefusalCode.STOPPING, Outcome.STOPPING)

    def decider(self, door: Door) -> Decide:
        """Return what decides on a request that comes through this door."""
        return lambda end, request: self._decide(door, end, request)

    def _decide(self, door: Door, end: WebSocketEnd, request: Request) -> Session | HttpReply:
        found = read_request(request, is_ready=lambda: self.is_ready)
        if isinstance(found, HttpReply):
            return found
        if not self._is_accepting:
            return busy("the gateway is stopping\n")
        identity = self._identify(door, found)
        if isinstance(identity, HttpReply):
            self.tally.ended[Carrier.WEBSOCKET, Outcome.UNAUTHORIZED] += 1
            return identity
        if found.release is not None and found.release not in self.routes.releases:
            return unknown_release(found.release, self.routes.releases)
        forwarded = request.headers.get_all("X-Forwarded-For")
        address = forwarded_address(door.address, forwarded, self._settings.trusted_proxies)
        if (refused := self._refuse_early(identity, address, found.release)) is not None:
            return refused
        self.tally.observe_handshake(Carrier.WEBSOCKET, time.monotonic() - door.opening.began_at)
        guest = Guest(carrier=Carrier.WEBSOCKET, identity=identity, address=address, release=found.release)
        return self._new_session(door, end, guest)

    def _refuse_early(self, identity: Identity, address: str, release: str | None) -> HttpReply | None:
        """Say before the upgrade what a session would say after it.

        The session is counted when its challenge is there: who says nothing takes no place from others.
        """
        try:
            self.admission.enter(identity, address).leave()
            self.routes.choose(release)
        except OverBound as exc:
            self.tally.ended[Carrier.WEBSOCKET, Outcome.BUSY] += 1
            return busy(f"{exc}\n")
        except NoEnclave as exc:
            self.tally.ended[Carrier.WEBSOCKET, Outcome.NO_ENCLAVE] += 1
            return busy(f"{exc}\n")
        return None

    @property
    def _needs_identity(self) -> bool:
        knows = self._settings.client_ca is not None or self._tokens.has_had_tokens
        return knows and not self._settings.is_anonymous

    def _identify(self, door: Door, upgrade: Upgrade) -> Identity | HttpReply:
        if upgrade.origin is not None and upgrade.origin not in self._settings.origins:
            text = "pages of this origin may not connect: --origin names those that may\n"
            return HttpReply(status=HTTPStatus.FORBIDDEN, text=text)
        if upgrade.token is not None:
            with suppress(UsageError):  # said by the sweep; what was read before stays in use
                self._tokens.refresh()
            entry = self._tokens.tokens.find(upgrade.token, datetime.now(UTC))
            if entry is None:
                return _UNAUTHORIZED
            return Identity(name=entry.name, key=entry.sha256.hex())
        identity = certificate_identity(door.peer_der, door.peer_fields)
        return _UNAUTHORIZED if identity is ANONYMOUS and self._needs_identity else identity

    def _new_session(self, door: Door, end: FramesEnd | WebSocketEnd, guest: Guest) -> Session:
        session = Session(self._context, end, guest)
        self.sessions[session] = door
        self.tally.open[guest.carrier] += 1
        return session

    # Routing

    def _route(self, session: Session) -> None:
        self.sessions[session].opening.leave()
        try:
            ticket = self.admission.enter(session.guest.identity, session.guest.address)
        except OverBound:
            session.refuse(RefusalCode.BUSY, Outcome.BUSY)
            return
        session.admitted(ticket)
        task = asyncio.get_running_loop().create_task(self._connect(session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, session: Session) -> None:
        """Connect to the enclave with the fewest sessions; one that is not there any more gives way."""
        while True:
            try:
                enclave = self.routes.choose(session.guest.release)
            except NoEnclave:
                session.refuse(RefusalCode.BUSY, Outcome.NO_ENCLAVE)
                return
            # Counted before it is connected: many that come at once must not all choose the same.
            enclave.sessions += 1
            try:
                link = await connect_link(session, enclave.destination.address, self._executor)
            except (EnclavectlError, OSError):
                enclave.suspect()
                continue
            finally:
                enclave.sessions -= 1
            session.connected(enclave, link)
            return

    def _update_routes(self) -> None:
        destinations = list(self._settings.destinations)
        if self._settings.announced is not None:
            destinations += self._leases.hold(self._settings.announced)
        came, went = self.routes.replace(destinations)
        for enclave in went:
            self._probes.pop(enclave).cancel()
            for session in [one for one in self.sessions if one.enclave is enclave]:
                session.drain()
        loop = asyncio.get_running_loop()
        for enclave in came:
            probing = keep_probing(enclave, self._limits, self._executor, self._note_health)
            self._probes[enclave] = loop.create_task(probing)

    def _note_health(self, enclave: Enclave) -> None:
        word = "answers" if enclave.health is Health.UP else "does not answer"
        self.note(f"{enclave.destination.name} of release {enclave.destination.release} {word}")

    # Time

    def sweep(self) -> None:
        """Look at every deadline, and now and then at the files."""
        now = time.monotonic()
        # TLS and HTTP; a session's own deadlines begin with it.
        self.openings.abort_older(now - self._limits.handshake_s - self._limits.first_frame_s)
        for session, door in list(self.sessions.items()):
            session.check(now)
            if isinstance(door.end, WebSocketEnd):
                door.end.check(now)
        if now >= self._files_due:
            self._files_due = now + _FILES_S
            self._look_at_files()

    def _look_at_files(self) -> None:
        problems = []
        try:
            self._tokens.refresh()
        except UsageError as exc:
            problems.append(exc.message)
        try:
            self._update_routes()
        except UsageError as exc:
            problems.append(exc.message)
        used = [one.enclave for one in self.sessions if one.enclave is not None]
        self._leases.let_go({one.destination for one in (*self.routes.enclaves, *used)})
        # Said once, and not each second until somebody mends it.
        for problem in problems:
            if problem not in self._problems:
                self.note(f"{problem}; what was read before stays in use")
        self._problems = problems
        keys = self._tokens.tokens.keys(datetime.now(UTC))
        for session in list(self.sessions):
            if (key := session.guest.identity.key) is not None and key not in keys:
                session.refuse(RefusalCode.STOPPING, Outcome.REVOKED)

    async def drain(self, stop_listening: Callable[[], None]) -> None:
        """Say that we stop, go on for a while, then end each session when its answers are through."""
        self.is_stopping = True
        await asyncio.sleep(self._limits.drain_accept_s)
        stop_listening()
        self._is_accepting = False
        for session in list(self.sessions):
            session.drain()
        try:
            async with asyncio.timeout(self._limits.drain_s):
                self._emptied.clear()
                if self.sessions:
                    await self._emptied.wait()
        except TimeoutError:
            self.note(f"{len(self.sessions)} sessions had answers under way when time was up")

    def _session_ended(self, session: Session, outcome: Outcome) -> None:
        door = self.sessions.pop(session)
        if not self.sessions:
            self._emptied.set()
        door.opening.leave()
        guest, seconds = session.guest, time.monotonic() - session.began_at
        self.tally.open[guest.carrier] -= 1
        self.tally.count_session(
            session.up, session.down, carrier=guest.carrier, outcome=outcome, seconds=seconds
        )
        if guest.identity.name is not None:
            self.tally.client_requests[guest.identity.name] += session.requests
        if not session.is_admitted and guest.identity.name is None:
            return  # strangers that never said a challenge are counted; a line each would fill the log
        value: dict[str, object] = {
            "schema": SESSION_SCHEMA,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "id": session.id,
            "client": guest.identity.name,
            "transport": str(guest.carrier),
            "release": None if session.enclave is None else session.enclave.destination.release,
            "requests": session.requests,
            "bytes_up": session.up.bytes,
            "bytes_down": session.down.bytes,
            "seconds": round(seconds, 3),
            "outcome": str(outcome),
        }
        if self._settings.logs_addresses:
            value["address"] = guest.address
        try:
            self._record(value)
        except OSError:
            # Nobody reads the log any more. Clients are served all the same, and the metrics say so.
            self.tally.lost_records += 1
