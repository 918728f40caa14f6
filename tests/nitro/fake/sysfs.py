"""What the kernel shows of the pool and the huge pages: the folder ``tree`` of a fake host, as of now."""

from __future__ import annotations

import fcntl
from collections import Counter
from pathlib import Path

from tests.nitro.fake.driver import holders
from tests.nitro.fake.place import Place

_CPU = "sys/devices/system/cpu"
_NODE = "sys/devices/system/node/node0"
_POOL = "sys/module/nitro_enclaves/parameters/ne_cpus"
_TOTAL_MIB = 63_000


def show(place: Place) -> None:
    """The folder says what is free now. Whoever comes last looked last."""
    settings, tree = place.settings, place.tree
    if not settings.sysfs:
        return
    with (place.home / ".sysfs").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # CPU 0 and its siblings are the parent's; the pool's are off-line, so that their cores are not seen.
        threads = max((len(core) for core in settings.cores), default=1)
        first = [0] + [max([0, *settings.pool]) + thread for thread in range(1, threads)]
        _write(tree / _CPU / "present", ",".join(map(str, sorted({*first, *settings.pool}))))
        _write(tree / _CPU / "online", ",".join(map(str, first)))
        for cpu in first:
            siblings = ",".join(map(str, first))
            _write(tree / _CPU / f"cpu{cpu}" / "topology" / "thread_siblings_list", siblings)
        if settings.module:
            _write(tree / _POOL, ",".join(map(str, settings.pool)))
        else:
            (tree / _POOL).unlink(missing_ok=True)
        _write(tree / _NODE / "meminfo", f"Node 0 MemTotal: {_TOTAL_MIB * 1024} kB")
        taken = Counter(size for held in holders(place) for size in held.pages)
        for size in {1024, 2, *settings.pages}:
            folder = tree / _NODE / "hugepages" / f"hugepages-{size * 1024}kB"
            reserved = settings.pages.get(size, 0)
            _write(folder / "nr_hugepages", str(reserved))
            _write(folder / "free_hugepages", str(max(0, reserved - taken[size])))


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text + "\n":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text + "\n")
    scratch.replace(path)
