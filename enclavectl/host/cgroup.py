"""The limits on this process's huge pages: the hugetlb limits of its cgroups (1 and 2), and its pod's.

A pod sees the pages of its whole node in sysfs, but may use only as many as its limits grant. Each limit is
for one page size. https://docs.kernel.org/admin-guide/cgroup-v2.html#hugetlb
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from enclavectl.host.memory import Pages, take_pages
from enclavectl.host.pod import PAGES, POD_DIR, pod_pages_mib, quantity
from enclavectl.host.tree import Tree

_V2 = "/sys/fs/cgroup"
_V1 = "/sys/fs/cgroup/hugetlb"
_LIMIT = re.compile(r"(hugetlb\.([0-9]{1,6})([KMG])B\.(?:rsvd\.)?)(max|limit_in_bytes)", re.ASCII)
_MIB_OF = {"M": 1, "G": 1024}  # no KB: nitro-cli uses no page below 2 MiB
_USED = {"max": "current", "limit_in_bytes": "usage_in_bytes"}
# Version 1 writes no limit as the largest multiple of a page that fits in 63 bits.
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLimit:
    """A limit on pages of one size, the used part of it, both in MiB, and the file that has the limit."""

    size_mib: int
    limit_mib: int
    used_mib: int
    file: str

    @property
    def free_mib(self) -> int:
        """The unused part of the limit."""
        return max(0, self.limit_mib - self.used_mib)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLimits:
    """The limits by page size in MiB; other sizes have no limit."""

    by_size: Mapping[int, PageLimit] = field(default_factory=dict)

    def cap(self, pages: Pages, *, is_fresh: bool = False) -> Pages:
        """Reduce the pages to what the limits allow; with ``is_fresh``, as if nothing were used yet."""
        capped = dict(pages)
        for size in pages.keys() & self.by_size.keys():
            one = self.by_size[size]
            capped[size] = min(pages[size], (one.limit_mib if is_fresh else one.free_mib) // size)
        return capped

    def forbids(self, needed_mib: int, sizes_mib: Mapping[int, object]) -> bool:
        """Return whether the limits allow too little memory in pages of all these sizes together."""
        return (
            bool(sizes_mib) and take_pages(self.cap(dict.fromkeys(sizes_mib, needed_mib)), needed_mib) is None
        )

    def words(self, pages: Pages) -> str:
        """Return the limits that apply to these pages, as the files write them."""
        cut = [
            self.by_size[size] for size in sorted(pages, reverse=True) if self.cap(pages)[size] < pages[size]
        ]
        return ", ".join(f"{PurePosixPath(one.file).name} is {one.limit_mib} MiB" for one in cut)

    def remedy(self, reserved: Pages, needed_mib: int) -> str:
        """Return the change that allows this process ``needed_mib`` of the host's reserved pages."""
        pages = take_pages(reserved, needed_mib)
        if pages is None:
            size = max((size for size, count in reserved.items() if count), default=max(reserved, default=2))
            pages = {size: -(-needed_mib // size)}
        wanted = ", ".join(f"hugepages-{quantity(size)}: {quantity(size * n)}" for size, n in pages.items())
        files = [self.by_size[size].file for size in pages if size in self.by_size]
        return f"in a pod: resources.limits {wanted}" + (
            f"; elsewhere whoever made this cgroup raises {', '.join(files)}" if files else ""
        )


def read_page_limits(tree: Tree) -> PageLimits:
    """Read the limits of this process; of several on one size, the lowest.

    Raises:
        HostError: a file exists and cannot be read.
    """
    found: dict[int, PageLimit] = {}
    for folder in _folders(tree.text("/proc/self/cgroup") or ""):
        for name in tree.names(folder):
            limit = _limit(tree, folder, name)
            if limit is not None and (
                limit.size_mib not in found or limit.free_mib < found[limit.size_mib].free_mib
            ):
                found[limit.size_mib] = limit
    for size, limit_mib in pod_pages_mib(tree).items():
        if size not in found or limit_mib < found[size].limit_mib:
            # The pod's own use is not known here. It has one enclave, and this is asked before its start.
            file = f"{POD_DIR}/{PAGES[size]}"
            found[size] = PageLimit(size_mib=size, limit_mib=limit_mib, used_mib=0, file=file)
    return PageLimits(by_size=found)


def _folders(table: str) -> Iterator[str]:
    """Yield the process's own cgroups and their parents, which limit it as well."""
    # Always include the mounts' own folders: in a container they are its cgroup, whatever the path is.
    paths = {_V2: "/", _V1: "/"}
    for line in table.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[_V2] = path
        elif "hugetlb" in controllers.split(","):
            paths[_V1] = path
    for base, path in paths.items():
        inner = PurePosixPath("/", path)
        if ".." not in inner.parts:
            yield from (f"{base}{one}" for one in (inner, *inner.parents) if str(one) != "/")
        yield base


def _limit(tree: Tree, folder: str, name: str) -> PageLimit | None:
    match = _LIMIT.fullmatch(name)
    if match is None or match[3] not in _MIB_OF:
        return None
    limit = tree.number(f"{folder}/{name}")  # "max" is no number and means no limit
    if limit is None or limit >= _NO_LIMIT:
        return None
    used = tree.number(f"{folder}/{match[1]}{_USED[match[4]]}") or 0
    return PageLimit(
        size_mib=int(match[2]) * _MIB_OF[match[3]],
        limit_mib=limit >> 20,
        used_mib=used >> 20,
        file=f"{folder}/{name}",
    )
