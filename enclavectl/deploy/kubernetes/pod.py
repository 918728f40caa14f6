"""The pod: an enclave as native sidecar, the gateway as main container, and the folders that they share.

The enclave starts before the gateway and ends after it, so a gateway that drains still has its enclave
(https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/).
"""

from __future__ import annotations

from enclavectl.deploy.kubernetes.request import FleetRequest, PodSecurity, ReleaseImage
from enclavectl.deploy.kubernetes.seccomp import LOCALHOST_PROFILE
from enclavectl.host.pod import MEMORY, PAGES, POD_DIR, quantity

Value = object
Object = dict[str, Value]

SLOT = "aws.ec2.nitro/nitro_enclaves"
SLOT_CPUS = "aws.ec2.nitro/nitro_enclaves_cpus"
NODE_LABEL = "aws-nitro-enclaves-k8s-dp"
RELEASE_LABEL = "enclavectl/release"
APP = "enclavectl"
PORT = 8443
METRICS_PORT = 9100
TLS_SECRET, TOKENS_SECRET, CONFIG_MAP = "gateway-tls", "gateway-tokens", "enclavectl"
# Where Dockerfile.parent puts the image.
EIF = "/opt/enclavectl/enclave.eif"
ANNOUNCED = "/run/enclavectl/announced"
CONFIG_FILE = "/etc/enclavectl/config/config.yaml"
# A volume's root is open to everybody (0777), so the state of enclaves must not lie there. This is sticky.
STATE_DIR = "/dev/shm/enclavectl"  # noqa: S108 - sticky, and in a folder of our own
_USER = 65532
# Accept 5 s, answers 30 s, last words 5 s, and then the enclave's end.
GRACE_S = 60
BOOT_WAIT_S = 600
_PROBE_S = 5
_GATEWAY_MIB = 256


def pod_labels(release: ReleaseImage) -> Object:
    """Return the labels of a release's pods."""
    return {"app.kubernetes.io/name": APP, RELEASE_LABEL: release.label}


def pod_spec(request: FleetRequest, release: ReleaseImage) -> Object:
    """Return the specification of a release's pods."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": _pod_security(request),
        "nodeSelector": {NODE_LABEL: "enabled", "kubernetes.io/arch": str(request.arch)},
        "tolerations": [
            {"key": NODE_LABEL, "operator": "Equal", "value": "enabled", "effect": "NoSchedule"},
        ],
        "topologySpreadConstraints": [
            _spread(release, "topology.kubernetes.io/zone"),
            _spread(release, "kubernetes.io/hostname"),
        ],
        "initContainers": [_enclave(request, release)],
        "containers": [_gateway(release)],
        "volumes": _volumes(request),
    }


def _spread(release: ReleaseImage, key: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": pod_labels(release)},
    }


def _pod_security(request: FleetRequest) -> Object:
    if request.pod_security is PodSecurity.BASELINE:
        # Root without capabilities: the device belongs to root and the node's group ne. No profile is named:
        # baseline refuses Unconfined, and RuntimeDefault refuses vsock.
        return {"runAsUser": 0, "runAsGroup": 0}
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "seccompProfile": {"type": "Localhost", "localhostProfile": LOCALHOST_PROFILE},
    }


def _container_security() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _environment() -> list[Object]:
    return [{"name": "ENCLAVECTL_CONFIG", "value": CONFIG_FILE}, {"name": "HOME", "value": "/tmp"}]  # noqa: S108


def _enclave(request: FleetRequest, release: ReleaseImage) -> Object:
    debug = ["--debug"] if request.is_debug else []
    key = [] if request.key is None or not release.is_sealed else request.key.arguments
    limits = {
        "memory": f"{release.ordinary_mib}Mi",
        request.pages.resource: quantity(request.pages_mib),
        SLOT: "1",
        SLOT_CPUS: str(request.cpus),
    }
    return {
        "name": "enclave",
        "image": release.image,
        "restartPolicy": "Always",
        "args": [
            *("run", EIF, "--foreground", "--name", "enclave", "--memory", str(request.pages_mib)),
            # The gateway has drained and is gone by the time that this container is asked to end.
            *("--boot-wait", str(BOOT_WAIT_S), "--drain", "0", *debug, *key),
        ],
        "env": _environment(),
        # Kubernetes takes huge pages and devices only where request and limit are the same.
        "resources": {"requests": {"cpu": "100m", **limits}, "limits": limits},
        "startupProbe": {
            # It challenges the enclave. nitro-cli is not asked: a probe that is killed could end the enclave.
            "exec": {"command": ["enclavectl", "fleet", "probe", "--from", ANNOUNCED]},
            "periodSeconds": _PROBE_S,
            "timeoutSeconds": 10,
            # A pod that waits for the key of its weights is announced, and so answers, once it has them.
            "failureThreshold": -(-(BOOT_WAIT_S + request.boot_bound_s + request.key_wait_s) // _PROBE_S),
        },
        "securityContext": _container_security(),
        "volumeMounts": [
            _mount("announced", ANNOUNCED),
            _mount("config", CONFIG_FILE.rpartition("/")[0], read_only=True),
            _mount("pod", POD_DIR, read_only=True),
            _mount("nitro-run", "/run/nitro_enclaves"),
            _mount("nitro-log", "/var/log/nitro_enclaves"),
            _mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    }


def _gateway(release: ReleaseImage) -> Object:
    def probe(path: str, period_s: int, failures: int) -> Object:
        return {
            "httpGet": {"path": path, "port": "clients", "scheme": "HTTPS"},
            "periodSeconds": period_s,
            "timeoutSeconds": 3,
            "failureThreshold": failures,
        }

    return {
        "name": "gateway",
        "image": release.image,
        "args": [
            *("gateway", "--from", ANNOUNCED, "--listen", f"0.0.0.0:{PORT}"),
            *("--cert", "/etc/enclavectl/tls/tls.crt", "--key", "/etc/enclavectl/tls/tls.key"),
            *("--tokens", "/etc/enclavectl/tokens/tokens.json", "--metrics", f"0.0.0.0:{METRICS_PORT}"),
        ],
        "env": _environment(),
        "ports": [
            {"name": "clients", "containerPort": PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "resources": {
            "requests": {"cpu": "250m", "memory": f"{_GATEWAY_MIB}Mi"},
            "limits": {"memory": f"{_GATEWAY_MIB}Mi"},
        },
        "readinessProbe": probe("/readyz", _PROBE_S, 2),
        # The process only: a gateway whose enclave boots is alive, and a restart would not help.
        "livenessProbe": probe("/healthz", 10, 6),
        "securityContext": _container_security(),
        "volumeMounts": [
            _mount("announced", ANNOUNCED, read_only=True),
            _mount("config", CONFIG_FILE.rpartition("/")[0], read_only=True),
            _mount("tls", "/etc/enclavectl/tls", read_only=True),
            _mount("tokens", "/etc/enclavectl/tokens", read_only=True),
            _mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    }


def _mount(name: str, path: str, *, read_only: bool = False) -> Object:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _volumes(request: FleetRequest) -> list[Object]:
    # With an own user, files of secrets are readable by the pod's group (fsGroup).
    mode = 0o440 if request.pod_security is PodSecurity.RESTRICTED else 0o400
    memory: Object = {"medium": "Memory", "sizeLimit": "16Mi"}
    limits = {MEMORY: "limits.memory", PAGES[request.pages.mib]: f"limits.{request.pages.resource}"}
    return [
        {"name": "announced", "emptyDir": memory},
        {"name": "nitro-run", "emptyDir": memory},
        {"name": "nitro-log", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "config", "configMap": {"name": CONFIG_MAP}},
        {
            "name": "pod",
            "downwardAPI": {
                "items": [
                    {
                        "path": path,
                        "resourceFieldRef": {
                            "containerName": "enclave",
                            "resource": resource,
                            "divisor": "1Mi",
                        },
                    }
                    for path, resource in limits.items()
                ]
            },
        },
        {"name": "tls", "secret": {"secretName": TLS_SECRET, "defaultMode": mode}},
        {"name": "tokens", "secret": {"secretName": TOKENS_SECRET, "defaultMode": mode}},
    ]
