"""Sessions for servers: threads and tasks that ask at the same time, losses, and the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclavectl.client import pool as module
from enclavectl.client.pictures import Picture
from enclavectl.client.pool import AsyncClient, ClientPool, PoolReply
from enclavectl.client.session import Client
from enclavectl.errors import AttestationError, EnclaveBusy, EnclaveLost, StateError
from enclavectl.protocol.media import MediaType
from tests.in_process import Brightness, InProcess, expect, gray, new_root, start_in_process

VALUES = [0, 255] * 20


def to(enclave: InProcess) -> Callable[[], Client]:
    return lambda: Client.connect(enclave.address, enclave.expectation, timeout_s=60)


def light(found: PoolReply) -> int:
    assert found.reply.outcome is not None, found.reply.error
    assert found.reply.outcome.probabilities_ppb is not None
    assert found.reply.receipted is not None
    assert found.enclave is not None
    return found.reply.outcome.probabilities_ppb["light"] // 1_000_000_000 * 255


def test_threads_that_ask_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    with (
        start_in_process(tmp_path) as enclave,
        ClientPool(to(enclave), timeout_s=60, sessions=3) as pool,
        ThreadPoolExecutor(8) as threads,
    ):
        found = list(threads.map(lambda value: light(pool.classify(gray(value))), VALUES))
    assert found == VALUES


def test_tasks_that_ask_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    async def ask(enclave: InProcess) -> list[int]:
        async with AsyncClient(to(enclave), timeout_s=60, sessions=3) as client:
            return [light(one) for one in await asyncio.gather(*(client.classify(gray(v)) for v in VALUES))]

    with start_in_process(tmp_path) as enclave:
        assert asyncio.run(ask(enclave)) == VALUES


def test_a_refused_picture_is_an_error_in_its_reply_and_costs_no_session(tmp_path: Path) -> None:
    connections = 0

    def connect() -> Client:
        nonlocal connections
        connections += 1
        return to(enclave)()

    with start_in_process(tmp_path) as enclave, ClientPool(connect, timeout_s=60, sessions=1) as pool:
        broken = pool.classify(Picture("a.png", MediaType.PNG, gray(0).data[:20]))
        assert broken.reply.outcome is not None
        assert broken.reply.outcome.problem == "unreadable"
        assert light(pool.classify(gray(255))) == 255
    assert connections == 1


def test_evidence_that_is_refused_is_raised_for_each_picture(tmp_path: Path) -> None:
    with start_in_process(tmp_path) as enclave:
        other = expect(new_root())
        with ClientPool(
            lambda: Client.connect(enclave.address, other, timeout_s=60), timeout_s=60, sessions=1
        ) as pool:
            for _ in range(2):
                with pytest.raises(AttestationError):
                    pool.classify(gray(0))


def test_a_lost_session_is_replaced_and_its_picture_asked_again(tmp_path: Path) -> None:
    with start_in_process(tmp_path) as enclave:
        opened: list[Client] = []

        def connect() -> Client:
            opened.append(to(enclave)())
            return opened[-1]

        with ClientPool(connect, timeout_s=60, sessions=1) as pool:
            assert light(pool.classify(gray(255))) == 255
            opened[0].close()  # as a gateway does that ends an idle session
            assert light(pool.classify(gray(0))) == 0
    assert len(opened) == 2


def test_where_no_enclave_is_left_the_reply_has_the_error_and_later_ones_are_raised(tmp_path: Path) -> None:
    with start_in_process(tmp_path) as enclave:
        opened: list[Client] = []

        def connect() -> Client:
            if opened:
                raise StateError("nothing listens")
            opened.append(to(enclave)())
            return opened[0]

        with ClientPool(connect, timeout_s=60, sessions=1) as pool:
            assert light(pool.classify(gray(255))) == 255
            opened[0].close()
            found = pool.classify(gray(0))
            assert isinstance(found.reply.error, EnclaveLost)
            with pytest.raises(StateError, match="nothing listens"):
                pool.classify(gray(0))


@contextmanager
def shut_gate(folder: Path) -> Iterator[tuple[InProcess, threading.Event]]:
    gate = threading.Event()
    with start_in_process(folder, classifiers=[Brightness(gate)]) as enclave:
        yield enclave, gate
        gate.set()


def test_a_pool_takes_no_more_than_it_can_answer_soon(tmp_path: Path) -> None:
    limit = module._WAITING_PER_SESSION
    with (
        shut_gate(tmp_path) as (enclave, gate),
        ClientPool(to(enclave), timeout_s=60, sessions=1) as pool,
    ):
        futures = [pool.submit(gray(255)) for _ in range(limit)]
        with pytest.raises(EnclaveBusy) as caught:
            pool.submit(gray(255))
        assert caught.value.code == "pool-full"
        gate.set()
        assert {light(future.result(60)) for future in futures} == {255}
        assert light(pool.classify(gray(255))) == 255


def test_a_cancelled_picture_is_not_sent_and_makes_room(tmp_path: Path) -> None:
    with (
        shut_gate(tmp_path) as (enclave, gate),
        ClientPool(to(enclave), timeout_s=60, sessions=1) as pool,
    ):
        first = pool.submit(gray(255))
        waiting = [pool.submit(gray(0)) for _ in range(3)]
        assert all(future.cancel() for future in waiting[1:])
        gate.set()
        assert (light(first.result(60)), light(waiting[0].result(60))) == (255, 0)


def test_a_closed_pool_fails_what_waits_and_takes_nothing(tmp_path: Path) -> None:
    with shut_gate(tmp_path) as (enclave, gate):
        pool = ClientPool(to(enclave), timeout_s=60, sessions=1)
        first, second = pool.submit(gray(255)), pool.submit(gray(0))
        while not first.running():
            threading.Event().wait(0.01)
        ending = threading.Thread(target=pool.close)
        ending.start()
        with pytest.raises(StateError):
            second.result(60)
        gate.set()
        ending.join(60)
        assert light(first.result(60)) == 255
    with pytest.raises(StateError, match="closed"):
        pool.submit(gray(0))
