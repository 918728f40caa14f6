"""The runner of nitro-cli: a command in, an answer or an error out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from enclavectl.errors import HostError
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.nitro_cli.describe_enclaves import DescribeEnclaves, DescribeInfo
from enclavectl.nitro_cli.environment import find_nitro_cli, logs_dir, nitro_environment, sockets_dir
from enclavectl.nitro_cli.hostlock import host_lock, is_same_folder
from enclavectl.nitro_cli.stream import objects, one_object
from enclavectl.progress import NoProgress, Progress
from enclavectl.run import Command, Output, capture_to_the_end

if TYPE_CHECKING:  # `list` runs describe-enclaves only and does not need these
    from enclavectl.nitro_cli.commands import NitroCommand
    from enclavectl.nitro_cli.terminate_enclave import TerminateInfo

_WHICH = "nitro-cli --version: is it a release that we know?"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveListing:
    """The answer of ``describe-enclaves``; ``unreachable`` counts the daemons that did not answer."""

    enclaves: tuple[DescribeInfo, ...]
    unreachable: int


class NitroCli:
    """The installed nitro-cli. Every command runs in ``/`` with a clean environment."""

    def __init__(
        self,
        environ: Mapping[str, str],
        progress: Progress | None = None,
        *,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Use the caller's ``environ``, which names the program and its folders.

        ``on_wait`` is called once in a longer wait for the enclaves' answers, after that was reported.
        """
        self.environ = environ
        self.environment = nitro_environment(environ)
        self._progress = progress or NoProgress()
        self._on_wait = on_wait
        self._held_lock: int | None = None

    @cached_property
    def program(self) -> str:
        """The program's absolute path.

        Raises:
            HostError: it is not installed.
        """
        return find_nitro_cli(self.environ)

    @property
    def sockets(self) -> Path:
        """The folder of the enclaves' sockets."""
        return sockets_dir(self.environ)

    @property
    def logs(self) -> Path:
        """The folder of nitro-cli's logs."""
        return logs_dir(self.environ)

    @contextmanager
    def launch_locked(self, *, gives_up: Callable[[], bool]) -> Iterator[None]:
        """Hold the launch lock of this host for the block; ``gives_up`` ends the wait for it.

        Raises:
            StateError: ``gives_up`` ended the wait.
            HostError: this host is not set up.
        """
        with host_lock(self.logs, "launch", self._progress, gives_up=gives_up) as lock:
            # If both folders are one, so are the locks, and taking the second would deadlock.
            self._held_lock = lock if is_same_folder(self.logs, self.sockets) else None
            try:
                yield
            finally:
                self._held_lock = None

    @contextmanager
    def host_locked(self) -> Iterator[HostLockedTool]:
        """Hold the lock on queries to the enclaves' daemons for the block.

        Raises:
            HostError: this host is not set up.
        """
        if self._held_lock is not None:
            yield HostLockedTool(self, self._held_lock, self._progress)
            return
        what = "conversation with the enclaves"
        with host_lock(self.sockets, what, self._progress, on_wait=self._on_wait) as lock:
            yield HostLockedTool(self, lock, self._progress)

    def describe(self, *, meanwhile: Callable[[], object] | None = None) -> EnclaveListing:
        """Take the lock for one ``HostLockedTool.describe``.

        Raises:
            HostError: this host is not set up, or nitro-cli failed.
        """
        with self.host_locked() as tool:
            return tool.describe(meanwhile=meanwhile)

    def terminate(self, enclave_id: str) -> TerminateInfo:
        """Take the lock for one ``HostLockedTool.terminate``.

        Raises:
            StateError: there is no such enclave; it may have just ended.
            HostError: nitro-cli refused (code nitro-cli-E39: another user's enclave) or failed.
        """
        with self.host_locked() as tool:
            return tool.terminate(enclave_id)

    def tell_slow(self, command: NitroCommand) -> None:
        """Report that nitro-cli takes long over a question to the enclaves."""
        self._progress.note(
            f"nitro-cli {command.to_argv()[0]} has not answered yet: a new enclave answers nobody until its "
            "image is hashed"
        )
        self._on_wait()

    def process(self, command: NitroCommand, *, pass_fds: tuple[int, ...] = ()) -> Command:
        """Return the process of a command.

        A caller that starts ``run-enclave`` must hold the launch lock, must not kill the process, and must
        pass no descriptor to it: its daemon would keep it.
        """
        # In "/", since the daemon keeps the folder in use. Every path that we pass is absolute.
        return Command(
            argv=[self.program, *command.to_argv()],
            cwd=Path("/"),
            environment=self.environment,
            pass_fds=pass_fds,
        )

    def error_of(self, command: NitroCommand, output: Output) -> Exception:
        """Make the error for a failed command from its output."""
        from enclavectl.nitro_cli.failure import read_error_log, read_failure

        return read_failure(output, read_error_log).to_error(command.to_argv()[0])

    def answer(self, command: NitroCommand, output: Output, read: Callable[[JsonObject], _T]) -> _T:
        """Return the answer in a command's output, parsed by ``read``.

        Raises:
            HostError: the command failed (StateError for an unknown enclave), or the answer is malformed.
        """
        if output.status != 0:
            raise self.error_of(command, output)
        try:
            return read(one_object(output.out))
        except JsonError as exc:
            raise unreadable(command, exc) from exc


def _tolerant(value: JsonObject) -> DescribeInfo | None:
    """Parse one enclave; return None for a malformed one, so that it does not hide the others."""
    try:
        return DescribeInfo.from_json(value)
    except JsonError:
        return None


def _failed_connections(err: bytes) -> int:
    from enclavectl.nitro_cli.failure import failed_connections

    return failed_connections(err)


def unreadable(command: NitroCommand, exc: JsonError) -> HostError:
    """Make the error for an answer of an unknown form."""
    return HostError(f"nitro-cli {command.to_argv()[0]}: {exc}", hint=_WHICH, code="nitro-cli")


class HostLockedTool:
    """nitro-cli under the lock on queries to the enclaves' daemons (``NitroCli.host_locked``).

    Its commands are never killed. On Ctrl-C a command finishes by itself and keeps the lock until then: its
    process inherits the lock, and forks no daemon that would keep it.
    """

    def __init__(self, cli: NitroCli, lock: int, progress: Progress) -> None:
        self._cli = cli
        self._lock = lock
        self._progress = progress

    def describe(self, *, meanwhile: Callable[[], object] | None = None) -> EnclaveListing:
        """Return all enclaves of this host, of any user, whose daemons answer.

        ``meanwhile`` is called while nitro-cli runs, to import the modules that its answer needs.

        Raises:
            HostError: nitro-cli failed.
        """
        command = DescribeEnclaves()
        output = self._run(command, meanwhile)
        try:
            found = [_tolerant(one) for one in objects(output.out)]
        except JsonError as exc:
            raise unreadable(command, exc) from exc
        unreachable = _failed_connections(output.err) if output.err else 0
        if output.status != 0 and not unreachable:
            raise self._cli.error_of(command, output)
        known = tuple(one for one in found if one is not None)
        return EnclaveListing(enclaves=known, unreachable=unreachable + len(found) - len(known))

    def terminate(self, enclave_id: str) -> TerminateInfo:
        """End the enclave.

        Raises:
            StateError: there is no such enclave; it may have just ended.
            HostError: nitro-cli refused (code nitro-cli-E39: another user's enclave) or failed.
        """
        from enclavectl.nitro_cli.terminate_enclave import TerminateEnclave, TerminateInfo

        command = TerminateEnclave(enclave_id=enclave_id)
        return self._cli.answer(command, self._run(command), TerminateInfo.from_json)

    def _run(self, command: NitroCommand, meanwhile: Callable[[], object] | None = None) -> Output:
        return capture_to_the_end(
            self._cli.process(command, pass_fds=(self._lock,)),
            meanwhile=meanwhile,
            if_slow=lambda: self._cli.tell_slow(command),
            on_interrupt=lambda: self._progress.note(
                f"nitro-cli {command.to_argv()[0]} goes on by itself: ending it now could end an enclave"
            ),
        )
