"""Any bytes are a reservation or an AllocatorError; edited, they pass, or are a list: AllocatorError."""

from __future__ import annotations

from enclavectl.host.allocator_edit import edit_allocator
from enclavectl.host.reservation import AllocatorError, Reservation, parse_allocator

_WANTED = Reservation(memory_mib=8192, cpu_count=4)
SEEDS: list[bytes] = [
    b"",
    b"---\n# shipped\nmemory_mib: 512\ncpu_count: 2\n# cpu_pool: 2,3,6-9\n",
    b'---\r\nmemory_mib: "512" # half\r\n\r\ncpu_pool: 2, 3,6-9',
    b"---\n- memory_mib: 512\n  cpu_count: 2\n",
    b"# a \\\n{memory_mib: 1}\n...\n'cpu_count': 0002 #x\\\n",
]


def one(data: bytes) -> None:
    try:
        found = parse_allocator(data)
    except AllocatorError:
        found = None
    if found is not None:
        assert parse_allocator(("---\n" + "\n".join(found.lines.values()) + "\n").encode()) == found
    try:
        edited = edit_allocator(data, _WANTED, "fuzz")
    except AllocatorError:
        return
    assert parse_allocator(edited) == _WANTED
    assert edit_allocator(edited, _WANTED, "fuzz") == edited
