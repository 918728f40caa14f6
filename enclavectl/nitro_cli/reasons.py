"""The causes of failures of the driver (E29) and the boot (E36): phrases in nitro-cli's backtrace, and fixes.

The phrases: https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.5.0/src/enclave_proc/resource_manager.rs.
Nothing else tells which of twenty different causes an "ioctl failure" had.
"""

from __future__ import annotations

import re

from enclavectl.nitro_cli.codes import Meaning

_PLAN = "enclavectl plan says what fits and which allocator values to set"
_POOL = "leave CPU ids out (--cpus COUNT): nitro-cli then takes free ones of the pool"
_PAGES = "let the allocator reserve at boot: sudo systemctl enable nitro-enclaves-allocator, then restart"
_REPORT = "report it: nitro-cli asks the driver for this by itself"
# The phrase of a launch that found vsock port 9000 taken.
PORT_TAKEN = "vsock bind error"

_REASONS = (
    ("The provided vCPU is already used", "another enclave has this CPU", _POOL),
    ("The provided vCPU is not available in the CPU pool", "the CPU is not in the enclaves' pool", _POOL),
    ("The vCPU core ID is invalid for the CPU pool", "the CPU's core is not in the enclaves' pool", _POOL),
    (
        "The memory region's size is not a multiple of 2 MiB",
        "a piece of memory has a size that no huge page has",
        _REPORT,
    ),
    ("The memory region's address is invalid", "a piece of memory lies where none can lie", _REPORT),
    ("The memory region's address is not aligned", "a piece of memory begins within a huge page", _REPORT),
    (
        "The memory region is already used",
        "another enclave has this memory",
        "enclavectl list shows it; terminate it first",
    ),
    (
        "The memory region is not backed by contiguous physical huge page(s)",
        "the memory is too fragmented for huge pages",
        _PAGES,
    ),
    (
        "The memory region's pages and the CPUs belong to different NUMA nodes",
        "the huge pages lie on another NUMA node than the CPUs",
        "reserve huge pages on the node of the pool only; enclavectl plan shows both per node",
    ),
    (
        "The maximum number of memory regions per enclave has been reached",
        "the memory is in too many small pages",
        _PAGES,
    ),
    (
        "The enclave cannot start because no memory regions have been added",
        "the enclave got no memory",
        _PLAN,
    ),
    (
        "The enclave cannot start because no vCPUs have been added",
        "the enclave got no CPU",
        "give at least --cpus 2",
    ),
    (
        "The enclave's memory size is lower than the minimum supported",
        "an enclave needs at least 64 MiB",
        _PLAN,
    ),
    (
        "The enclave cannot start because full CPU cores have not been set",
        "a core would be shared with the parent: with two threads a core the number of CPUs must be even",
        "give an even --cpus, or all threads of each core",
    ),
    (
        "The enclave is in an incorrect state to set resources or start",
        "the enclave had been started or had ended already",
        "run it again",
    ),
    ("The provided vCPU is out of range of the available CPUs", "the machine has no such CPU", _POOL),
    (
        "The enclave cannot be created because no CPUs are available in the pool",
        "every CPU of the enclaves' pool is taken, or the pool is empty",
        "enclavectl list shows who has them; enclavectl setup makes a pool",
    ),
    (
        "The memory region is not backed by page(s) multiple of 2 MiB",
        "the memory is not in huge pages",
        _PAGES,
    ),
    (
        "The provided flags value in the ioctl arg data structure is invalid",
        "the driver is older than nitro-cli",
        "update the kernel",
    ),
    (
        "The provided enclave CID is invalid, being a well-known CID or the parent VM CID",
        "the CID is reserved or in use",
        "leave --cid out and the driver chooses a free one",
    ),
    (
        PORT_TAKEN,
        "something else has vsock port 9000, to which a booting enclave reports: a launch, or a proxy",
        "ss --vsock -l shows who has port 9000; wait for that launch, or move that proxy",
    ),
    (
        "VsockTimeoutError",
        "the enclave gave no sign of life: it did not boot",
        "enclavectl run --debug shows the boot text; enclavectl eif verify checks the image",
    ),
    (
        "Failed to allocate entire memory",
        "the free huge pages do not add up to what was asked for",
        _PLAN,
    ),
    (
        "Failed to open device file",
        "/dev/nitro_enclaves cannot be opened: enclaves are off for this instance, or the user not in ne",
        "enclavectl doctor says which; enclavectl setup adds the user to the group ne",
    ),
)
REASONS = {words: Meaning(cause, fix) for words, cause, fix in _REASONS}
_ERRNO = re.compile(r"An error has occurred: [0-9]+ \(rc: -?[0-9]+\)")


def find_reason(text: str) -> tuple[str, Meaning] | None:
    """Find the first known phrase in a backtrace; return it with its meaning, or None."""
    found = [(text.index(words), words) for words in REASONS if words in text]
    if found:
        words = min(found)[1]
        return words, REASONS[words]
    if (match := _ERRNO.search(text)) is not None:
        return match[0], Meaning(
            f"the driver returned an error without a name ({match[0]})", "enclavectl doctor"
        )
    return None
