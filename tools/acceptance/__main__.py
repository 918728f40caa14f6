"""``python -m tools.acceptance``: run everything, and write the report.

Exit codes: 0 all held; 1 something did not, which the report names; 2 wrong words; 3 this is no Nitro host.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import enclavectl
from enclavectl.artifacts.lock import read_lock
from enclavectl.attestation import Policy, Release, Trust, TrustRoot, aws_nitro_root
from enclavectl.errors import EnclavectlError
from enclavectl.files import write_atomic
from tools.acceptance.measures import measure
from tools.acceptance.steps import PROJECT, SAMPLES, Plan, StepFailed, Steps, walk

SCHEMA = "enclavectl.nitro-acceptance/1"
DEVICE = "/dev/nitro_enclaves"
_DMI = Path("/sys/devices/virtual/dmi/id/product_name")
_DRIVER = Path("/sys/module/nitro_enclaves")
# Of the contract tests' 160, each of which starts nitro-cli a few times.
_CONTRACT_S = 900.0


def main() -> int:
    """Run the acceptance; return the exit code."""
    arguments = _parse()
    if (problem := device_problem()) is not None:
        print(f"nitro-acceptance: {problem}", file=sys.stderr)
        print(
            "  try: an EC2 instance with enclaves enabled, and enclavectl setup on it: docs/acceptance.md",
            file=sys.stderr,
        )
        return 3
    image = Path(arguments.image).absolute()
    plan = Plan(image=image, memory_mib=arguments.memory, cpus=arguments.cpus, cid=arguments.cid)
    report = run(plan, os.environ, with_contract=not arguments.skip_contract)
    write_atomic(Path(arguments.report), json.dumps(report, indent=2).encode() + b"\n")
    print(f"{arguments.report}: {'everything held' if report['passed'] else report['failure']}")
    return 0 if report["passed"] else 1


def device_problem() -> str | None:
    """Return why the device cannot be opened; None if it can."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        return f"expected a Nitro host, found {DEVICE} that cannot be opened ({exc.strerror})"
    return None


def run(plan: Plan, environ: Mapping[str, str], *, with_contract: bool) -> dict[str, object]:
    """Run all of it; return the report. A failure is part of the report."""
    home = Path(tempfile.mkdtemp(prefix="enclavectl-acceptance-"))
    steps = Steps(home, environ)
    report: dict[str, object] = {"schema": SCHEMA, "passed": False, "failure": None, **facts(environ)}
    started = time.monotonic()
    try:
        lock = read_lock(plan.image.with_name("enclavectl.lock.json"))
        report |= {"pcrs": dict(lock.pcrs), "image_bytes": plan.image.stat().st_size}
        root = _root(environ)
        report["verified_under"] = {"root": root.name, "trust": str(root.trust)}
        registers = {int(name[3:]): bytes.fromhex(value) for name, value in lock.pcrs.items()}
        policy = Policy(
            accept=frozenset({root.trust}), releases=(Release(name="acceptance", pcrs=registers),)
        )

        def measured(_: Steps, address: str) -> None:
            report["measured"] = measure(address, policy, root, SAMPLES / "bcc.png")

        walk(steps, plan, measured)
        if with_contract:
            report["contract"] = contract(environ)
        report["passed"] = True
    except (StepFailed, EnclavectlError, subprocess.SubprocessError, OSError) as exc:
        report["failure"] = str(exc)
        subprocess.run(
            [sys.executable, "-m", "enclavectl", "terminate", "acceptance"],
            env=steps.environment(),
            cwd=home,
            capture_output=True,
            check=False,
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return {**report, "steps": steps.taken, "seconds": round(time.monotonic() - started, 1)}


def facts(environ: Mapping[str, str]) -> dict[str, object]:
    """Return the versions of everything that takes part. No name, address or account of anybody's."""
    version = subprocess.run(
        ["nitro-cli", "--version"], env=dict(environ), capture_output=True, text=True, check=False
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "enclavectl": enclavectl.__version__,
        "nitro_cli": version.stdout.strip(),
        "instance_type": _read(_DMI),
        "kernel": platform.release(),
        "driver": _read(_DRIVER / "version") or _read(_DRIVER / "srcversion"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def contract(environ: Mapping[str, str]) -> dict[str, object]:
    """Run the contract tests against this host's nitro-cli; return what they said.

    Raises:
        StepFailed: one of them failed.
    """
    program = shutil.which("nitro-cli", path=environ.get("PATH"))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/nitro/contract", "-m", "nitro_cli"],
        cwd=PROJECT,
        env={**environ, "ENCLAVECTL_TEST_NITRO_CLI": program or "", "ENCLAVECTL_TEST_REQUIRE_NITRO_CLI": "1"},
        capture_output=True,
        text=True,
        timeout=_CONTRACT_S,
        check=False,
    )
    last = ran.stdout.strip().splitlines()[-1:] or [""]
    if ran.returncode != 0:
        raise StepFailed(f"the contract tests: {ran.stdout[-2000:]}")
    return {"result": last[0]}


def _root(environ: Mapping[str, str]) -> TrustRoot:
    """Return AWS's root, or the one that the operator configured for a host that simulates."""
    file = environ.get("ENCLAVECTL_NITRO_ROOT")
    if file is None:
        return aws_nitro_root()
    return TrustRoot.from_pem(Path(file).read_bytes(), trust=Trust.SIMULATED, name="a root of the operator's")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.acceptance", description=__doc__)
    parser.add_argument("--image", default="enclave.eif", help="an image; its lock is beside it")
    parser.add_argument("--report", default="nitro-acceptance.json", help="the file that is written")
    parser.add_argument("--memory", type=int, default=8192, help="MiB of the enclave")
    parser.add_argument("--cpus", type=int, default=4, help="CPUs of the enclave")
    parser.add_argument("--cid", type=int, default=16, help="its address on vsock")
    parser.add_argument("--skip-contract", action="store_true", help="leave the contract tests out")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
