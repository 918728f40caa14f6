from __future__ import annotations

import resource
import signal
import stat
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from enclavectl.backends.console_log import HALF_BYTES, ConsoleLog, read_console


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    assert b"".join(read_console(path)) == b""
    log = ConsoleLog(path)
    log.write(b"one\n")
    assert b"".join(read_console(path)) == b"one\n"
    log.write(b"two\n")
    log.close()
    assert b"".join(read_console(path)) == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(st.lists(st.integers(0, HALF_BYTES // 2), max_size=12))
def test_the_newest_stay_and_the_size_is_bounded(tmp_path_factory: object, sizes: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "console.log"
        log = ConsoleLog(path)
        written = b""
        for number, size in enumerate(sizes):
            chunk = bytes([number]) * size
            written += chunk
            log.write(chunk)
        log.close()
        kept = b"".join(read_console(path))
        assert written.endswith(kept)
        assert len(kept) >= min(len(written), HALF_BYTES // 2)
        assert sum(file.stat().st_size for file in Path(folder).iterdir()) <= 2 * HALF_BYTES


def test_one_write_over_the_bound_keeps_its_end(tmp_path: Path) -> None:
    log = ConsoleLog(tmp_path / "console.log")
    log.write(b"x" * HALF_BYTES + b"the end")
    log.close()
    kept = b"".join(read_console(tmp_path / "console.log"))
    assert len(kept) == HALF_BYTES
    assert kept.endswith(b"the end")


def test_a_log_goes_on_where_another_writer_ended(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    before = ConsoleLog(path)
    before.write(b"x" * (HALF_BYTES - 4))
    before.close()
    log = ConsoleLog(path, goes_on=True)
    log.write(b"one\n")
    assert not (tmp_path / "console.log.1").exists()
    log.write(b"two\n")
    log.close()
    assert path.read_bytes() == b"two\n"
    assert b"".join(read_console(path)).endswith(b"xone\ntwo\n")


def test_what_a_full_disk_does_not_take_is_missing_and_told(tmp_path: Path) -> None:
    """A bound on the size of a file stands for the disk's end."""
    path = tmp_path / "console.log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = ConsoleLog(path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        log.write(b"one\n")
        log.write(b"lost lines\n")
        log.write(b"more\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    log.write(b"two\n")
    log.close()
    text = b"".join(read_console(path))
    assert text.startswith(b"one\n")
    assert text.endswith(b"[16 bytes are missing here: the disk was full]\ntwo\n")


def test_following_sees_everything_until_the_end_over_a_change_of_halves(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    log = ConsoleLog(path)
    log.write(b"before\n")
    running = threading.Event()
    running.set()
    chunks = read_console(path, running.is_set)
    seen = bytearray(next(chunks))
    lines = [f"{number:07d}\n".encode() * 4096 for number in range(40)]  # 1.3 MB: the halves change twice
    # Less than a half ahead of the reader, as boot text is: who is further behind does lose some.
    room = threading.Semaphore(HALF_BYTES // len(lines[0]) - 1)

    def write() -> None:
        for line in lines:
            assert room.acquire(timeout=60)
            log.write(line)
        log.close()
        running.clear()

    writer = threading.Thread(target=write)
    writer.start()
    for chunk in chunks:
        before = len(seen) // len(lines[0])
        seen += chunk
        for _ in range(len(seen) // len(lines[0]) - before):
            room.release()
    writer.join()
    assert bytes(seen) == b"before\n" + b"".join(lines)
