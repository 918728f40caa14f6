"""What a node needs for enclaves: user data, Karpenter's objects, and the install of AWS's device plugin.

None of it could be tried on an instance; each trap is named where it lies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.deploy.kubernetes.pod import NODE_LABEL, SLOT, SLOT_CPUS
from enclavectl.deploy.kubernetes.request import Arch, PageSize
from enclavectl.deploy.kubernetes.seccomp import LOCALHOST_PROFILE, seccomp_profile
from enclavectl.errors import UsageError
from enclavectl.host.pod import quantity
from enclavectl.host.requirements import MAX_ENCLAVES

PLUGIN = "0.4.1"
_CHART = "oci://public.ecr.aws/aws-nitro-enclaves/charts/aws-nitro-enclaves-k8s-device-plugin"
_ALLOCATOR = "/etc/nitro_enclaves/allocator.yaml"
_BOUNDARY = "==ENCLAVECTL=="
# https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html
_CLUSTER = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}", re.ASCII)


class NodeKind(StrEnum):
    """Who makes the nodes."""

    AL2023 = "al2023"
    KARPENTER = "karpenter"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """The enclaves of a node. ``memory_mib`` and ``cpus`` are of one enclave, in whole pages and cores."""

    cluster: str
    slots: int
    memory_mib: int
    cpus: int
    pages: PageSize
    arch: Arch

    def __post_init__(self) -> None:
        """Refuse what no instance has.

        Raises:
            UsageError: slots or CPUs are out of bounds, or no cluster has that name.
        """
        if not 1 <= self.slots <= MAX_ENCLAVES:
            raise UsageError(f"--slots {self.slots}: expected 1 to {MAX_ENCLAVES}, the enclaves of a node")
        if _CLUSTER.fullmatch(self.cluster) is None:
            raise UsageError(
                f"--cluster: expected up to 100 letters, digits, - and _, found {self.cluster!r:.110}",
                hint="EKS has no other names: aws eks list-clusters",
            )
        if self.cpus < 1 or self.cpus % self.arch.threads_per_core:
            raise UsageError(
                f"--cpus {self.cpus}: expected whole cores, which have {self.arch.threads_per_core} threads"
            )

    @property
    def least_cpus(self) -> int:
        """VCPUs of the smallest instance: the enclaves', and as many for the kubelet and the gateways."""
        return 2 * self.slots * self.cpus


def node_files(request: NodeRequest, kind: NodeKind) -> dict[str, str]:
    """Return each file by name, in the order in which to use them."""
    files = {"userdata.mime": user_data(request)}
    if kind is NodeKind.KARPENTER:
        files["karpenter.yaml"] = karpenter(request)
    files["plugin.sh"] = plugin(request)
    return files


def plugin(request: NodeRequest) -> str:
    """Return the install command of AWS's device plugin, with its traps."""
    value = "awsNitroEnclavesK8SDaemonset.awsNitroEnclavesK8SDp.env"
    return f"""#!/bin/sh
# AWS's device plugin, {PLUGIN}. It always says Healthy: it advertises slots also where the driver or the
# allocator is missing, and the pod then fails when its container is made. It counts CPUs once, at its start:
# after a change of the allocator, restart it on that node.
# Its labels and tolerations are those of the nodes below; the chart tolerates no taint by itself.
set -eu
helm upgrade --install nitro-enclaves {_CHART} \\
  --version {PLUGIN} --namespace kube-system \\
  --set-string {value}.maxEnclavesPerNode={request.slots} \\
  --set-string {value}.enclaveCpuAdvertisement=true \\
  --set 'awsNitroEnclavesK8SDaemonset.tolerations[0].key={NODE_LABEL}' \\
  --set 'awsNitroEnclavesK8SDaemonset.tolerations[0].operator=Exists' \\
  --set 'awsNitroEnclavesK8SDaemonset.tolerations[0].effect=NoSchedule'
"""


def user_data(request: NodeRequest) -> str:
    """Return the user data of an AL2023 node: the kubelet's label and taint, and the allocator before it."""
    return f"""MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="{_BOUNDARY}"

--{_BOUNDARY}
Content-Type: application/node.eks.aws

---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    flags:
      - --node-labels={NODE_LABEL}=enabled
      - --register-with-taints={NODE_LABEL}=enabled:NoSchedule
  containerd:
    # Pods of another user than root (Pod Security restricted) may open /dev/nitro_enclaves with this.
    config: |
      [plugins."io.containerd.cri.v1.runtime"]
      device_ownership_from_security_context = true

--{_BOUNDARY}
Content-Type: text/x-shellscript; charset="us-ascii"

{_script(request)}
--{_BOUNDARY}--
"""


def _script(request: NodeRequest) -> str:
    profile = seccomp_profile().decode()
    path = f"/var/lib/kubelet/seccomp/{LOCALHOST_PROFILE}"
    return f"""#!/bin/bash
# Shell parts run after nodeadm's configuration and before the kubelet, which counts huge pages at its start
# only. A kubelet that counted earlier gives pods SIGBUS (kubernetes #99483): restart it after a change. The
# AL2023 image 20250807 broke that order (amazon-eks-ami #2367). Managed node groups only prepend user data.
set -euo pipefail
# The package wants docker, which EKS's AL2023 excludes (nitro-cli #702). A node needs the driver's rule, the
# allocator and its unit; nitro-cli is in the pod. NOT TRIED on an instance; a baked AMI is the safe way.
if ! rpm -q aws-nitro-enclaves-cli >/dev/null; then
  cd "$(mktemp -d)"
  dnf download -y aws-nitro-enclaves-cli
  rpm -i --nodeps ./aws-nitro-enclaves-cli-*.rpm
fi
# {request.slots} enclaves of {request.memory_mib} MiB and {request.cpus} vCPUs.
# From 1,024 MiB on the allocator makes pages of 1 GiB and none of 2 MiB (nitro-cli #602); pods that ask
# for the others stay Pending.
cat >{_ALLOCATOR} <<'ALLOCATOR'
---
memory_mib: {request.slots * request.memory_mib}
cpu_count: {request.slots * request.cpus}
ALLOCATOR
systemctl enable --now nitro-enclaves-allocator.service
# The profile for namespaces of Pod Security restricted: what runtimes refuse, without their refusal of vsock.
install -d {path.rpartition("/")[0]}
cat >{path} <<'PROFILE'
{profile}PROFILE
"""


def karpenter(request: NodeRequest) -> str:
    """Return Karpenter's objects: from 1.15 on it knows enclaves."""
    data = "\n".join(f"    {line}".rstrip() for line in user_data(request).splitlines())
    return f"""# Karpenter 1.15 or newer (2026-10), with the alpha gate nodeOverlay. Without the overlay
# it does not know the plugin's resources before a node is there, and makes none. It does not subtract
# the enclaves' CPUs and memory from cpu and memory: leave room. Not for Fargate, EKS Auto Mode, Local
# Zones or Bottlerocket.
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata:
  name: nitro-enclaves
spec:
  amiSelectorTerms:
    - alias: al2023@latest # pin a version that you have tried
  role: KarpenterNodeRole-{request.cluster}
  subnetSelectorTerms:
    - tags:
        karpenter.sh/discovery: {request.cluster}
  securityGroupSelectorTerms:
    - tags:
        karpenter.sh/discovery: {request.cluster}
  enclaveOptions:
    enabled: true
  # Sealed weights by KMS: a pod reaches the role's credentials at 2 hops, and Karpenter's default is 1.
  # metadataOptions: {{httpPutResponseHopLimit: 2}}
  userData: |
{data}
{_node_pool(request)}{_node_overlay(request)}"""


def _node_pool(request: NodeRequest) -> str:
    return f"""---
apiVersion: karpenter.sh/v1
kind: NodePool
metadata:
  name: nitro-enclaves
spec:
  template:
    metadata:
      labels:
        {NODE_LABEL}: enabled
    spec:
      nodeClassRef:
        group: karpenter.k8s.aws
        kind: EC2NodeClass
        name: nitro-enclaves
      taints:
        - key: {NODE_LABEL}
          value: enabled
          effect: NoSchedule
      requirements:
        - key: kubernetes.io/arch
          operator: In
          values: ["{request.arch}"]
        - key: karpenter.k8s.aws/instance-cpu
          operator: Gt
          values: ["{request.least_cpus - 1}"]
  disruption:
    # An enclave is lost with its node; the gateway drains, and clients go on elsewhere.
    consolidationPolicy: WhenEmpty
    consolidateAfter: 10m
"""


def _node_overlay(request: NodeRequest) -> str:
    return f"""---
apiVersion: karpenter.sh/v1alpha1
kind: NodeOverlay
metadata:
  name: nitro-enclaves
spec:
  requirements:
    - key: karpenter.sh/nodepool
      operator: In
      values: ["nitro-enclaves"]
  # What the plugin and the kubelet will say of such a node. Where it differs, pods are placed wrongly.
  capacity:
    {SLOT}: "{request.slots}"
    {SLOT_CPUS}: "{request.slots * request.cpus}"
    {request.pages.resource}: {quantity(request.slots * request.memory_mib)}
"""
