"""A pod of Kubernetes, as far as its processes can see it: what of a node is there, and what of it is theirs.

A pod's sysfs is its node's. Its limits are what the kubelet gave it: hugetlb limits of cgroups where the
runtime sets them, and in the pods that ``enclavectl fleet render`` writes, files of the downward API too.
"""

from __future__ import annotations

from collections.abc import Mapping

from enclavectl.host.tree import Tree

# A volume of the downward API: a file for each limit, in MiB.
POD_DIR = "/etc/enclavectl/pod"
# Names of the resources by page size in MiB; Kubernetes hands out no other that nitro-cli takes.
PAGES = {1024: "hugepages-1Gi", 2: "hugepages-2Mi"}
MEMORY = "memory"
# The kubelet sets it in every container, also with enableServiceLinks: false.
_VARIABLE = "KUBERNETES_SERVICE_HOST"
# AWS's device plugin sets it where CPUs are a resource of it.
_CPUS = "NITRO_ENCLAVES_CPUS"
# Version 2 and version 1 of cgroups; in a container these are its own.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT = 1 << 62


def is_pod(tree: Tree, environ: Mapping[str, str]) -> bool:
    """Return whether this process is in a container of a pod."""
    return _VARIABLE in environ or tree.exists(POD_DIR)


def pod_pages_mib(tree: Tree) -> dict[int, int]:
    """Return the pod's limits on huge pages in MiB, by page size; nothing if the pod does not say.

    A size that the pod does not name is one that it may not use at all.

    Raises:
        HostError: a file exists and cannot be read.
    """
    if not tree.exists(POD_DIR):
        return {}
    return {size: tree.number(f"{POD_DIR}/{name}") or 0 for size, name in PAGES.items()}


def pod_cpus(environ: Mapping[str, str]) -> int | None:
    """Return the vCPUs that this container may give to an enclave; None if nobody says."""
    text = environ.get(_CPUS, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None


def quantity(mib: int) -> str:
    """Format a size as Kubernetes does: https://kubernetes.io/docs/tasks/manage-hugepages/."""
    return f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"


def memory_limit_mib(tree: Tree) -> int | None:
    """Return the limit on this container's ordinary memory; None if there is none.

    Raises:
        HostError: a file exists and cannot be read.
    """
    for name in _MEMORY_LIMITS:
        found = tree.number(name)
        if found is not None and found < _NO_LIMIT:
            return found >> 20
    return tree.number(f"{POD_DIR}/{MEMORY}")
