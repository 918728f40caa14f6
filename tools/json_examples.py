"""Makes the examples of docs/json.md by running the commands: `python -m tools.json_examples`.

Where no Docker engine is (`.ci/docker-lane .venv/bin/python -m tools.json_examples` starts one), the examples
of `build` stay as they are.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from enclavectl.cli.commands.build import DEFAULT_BASE
from enclavectl.cli.commands.fleet.status import status_json
from enclavectl.cli.commands.model import FETCH_SCHEMA
from enclavectl.deploy.kubernetes.gateways import parse_metrics
from enclavectl.models.fetch import fetch_published
from enclavectl.models.find import PACKAGED_DIR
from tests.cli.images import signing_files, write_image
from tests.deploy.fleets import image, write_lock
from tests.deploy.test_gateways import PAGE as METRICS
from tests.e2e.cli import SAMPLES, Cli
from tests.e2e.nitro import nitro_stage
from tests.eif import samples
from tests.forge import EnclaveForge
from tests.host import trees
from tests.image.engine import BASE_IMAGE, docker_environment
from tests.image.test_kernel import kernel_tree
from tests.models.test_fetch import published, sends, serving
from tests.models.tiny import MODELS
from tests.schemas.validation import checked
from tools.json_page import PAGE, Example, read_page, render_page, to_text

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """# yaml-language-server: $schema=config-file.json
backend: nitro
profile: production
policy: /etc/enclavectl/policy.yaml
enclave:
  memory_mib: 4096
  cpus: 2
"""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Runs commands and keeps what each printed, by its schema."""

    cli: Cli
    examples: dict[str, Example] = field(default_factory=dict)

    @property
    def replacements(self) -> dict[str, str]:
        """Neutral names for what is of this machine, the longer ones first."""
        base = str(self.cli.base)
        return {
            str(self.cli.state): "/home/ada/.local/state/enclavectl",
            f"{base}/data": "/home/ada/.local/share/enclavectl",
            f"{base}/home": "/home/ada",
            base: "/home/ada/work",
            sys.prefix: "/usr/local",
            str(ROOT): "/usr/local/lib/python3.11/site-packages",
            " -u root ": " -u ada ",
            **({f"--base-image {BASE_IMAGE} ": "", BASE_IMAGE: DEFAULT_BASE} if BASE_IMAGE else {}),
        }

    def run(self, *arguments: str | Path, fails: bool = False) -> None:
        """Run a command whose object is an example; ``fails`` if that is the error object."""
        ran = self.cli.run(*arguments, "--output", "json")
        value = ran.json()
        assert fails or value.get("error") is None, ran.err
        self.keep(shlex.join(["enclavectl", *map(str, arguments), "--output", "json"]), value)

    def keep(self, command: str, value: dict[str, object]) -> None:
        """Keep the object that a command printed."""
        checked(value)
        own = value.get("enclavectl") if "schema" not in value else value
        assert isinstance(own, dict)
        name = str(own["schema"]).removeprefix("enclavectl.").partition("/")[0]
        for found, neutral in self.replacements.items():
            command = command.replace(found, neutral)
        self.examples[name] = Example(command=command, text=to_text(value, self.replacements))

    def keep_file(self, name: str, command: str, text: str) -> None:
        """Keep a file that a person writes or a command wrote."""
        self.examples[name] = Example(command=command, text=text)


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record on this machine's backend local, in a scratch folder."""
    with tempfile.TemporaryDirectory(prefix="json-") as folder:
        base = Path(folder)
        (base / "home").mkdir()
        recorder = Recorder(Cli(base, variables={"ENCLAVECTL_BACKEND": "local"}))
        for path in SAMPLES.glob("*.png"):
            shutil.copy(path, base)
        try:
            yield recorder
        finally:
            recorder.cli.run("terminate", "--all")


def pictures(recorder: Recorder) -> None:
    """Record what the commands about pictures and local enclaves print."""
    cli = recorder.cli
    recorder.run("diagnose", "--enclave", "first", "bcc.png", fails=True)  # it is not started yet
    cli.ok("run", "--name", "first")
    (cli.base / "damaged.png").write_bytes((cli.base / "bcc.png").read_bytes()[:2000])
    recorder.run("diagnose", "bcc.png", "damaged.png")
    cli.ok("diagnose", "bcc.png", "--results", "answers.jsonl")
    line = (cli.base / "answers.jsonl").read_text()
    recorder.keep("head -1 answers.jsonl", json.loads(line))
    listen = ("listen", "--count", "1", "--timeout", "60")
    with cli.start(*listen, "--top", "3", "--output", "json") as listener:
        recorder.run("send", "mel.png")
        out, _ = listener.communicate(timeout=60)
    recorder.keep(f"enclavectl {' '.join(listen)} --top 3 --output json", json.loads(out))
    kept(recorder)
    recorder.run("console", "first")
    recorder.run("terminate", "first")
    recorder.run("logs", "first")
    recorder.run("history")


def remotes(recorder: Recorder) -> None:
    """Record what the commands print of enclaves elsewhere; this one is not far."""
    cli = recorder.cli
    cli.ok("run", "--name", "first")
    cli.ok("describe", "first", "--policy-file", "policy.yaml")
    address = cli.ok("describe", "first", "--output", "json").json()["enclave"]["address"]
    shutil.copy(cli.root, cli.base / "root.pem")
    (cli.base / "token").write_text("not-a-secret")
    cli.ok("remote", "add", "hospital", address, "--policy", "policy.yaml", "--root", "root.pem")
    recorder.run("remote", "list")
    recorder.run("remote", "show", "hospital")
    recorder.run("remote", "check", "hospital")
    recorder.run("remote", "remove", "hospital")
    invite = ("remote", "invite", "wss://gateway.example/v1", "--policy", "policy.yaml")
    recorder.run(*invite, "--token-file", "token", "--write", "invitation.txt")
    page = ("page", "--policy", "policy.yaml", "--root", "root.pem", "--remote", "wss://gateway.example/v1")
    recorder.run(*page, "--to", "patient.html")  # needs what `make page` builds
    recorder.run("selftest", "--tamper")
    cli.ok("terminate", "first")


def kept(recorder: Recorder) -> None:
    """Record the evidence that a session leaves, and what others find in it."""
    cli, base = recorder.cli, recorder.cli.base
    cli.ok("describe", "first", "--policy-file", "first.yaml")
    shutil.copy(cli.root, base / "root.pem")
    cli.ok("diagnose", "--evidence", "evidence.json", "--include-statements", "bcc.png")
    evidence = json.loads((base / "evidence.json").read_text())
    recorder.keep("cat evidence.json", evidence)
    judge = ("--policy", "first.yaml", "--root", "root.pem", "--at", "document", "--picture", "bcc.png")
    recorder.run("verify", "evidence.json", *judge)
    (base / "answer.air").write_bytes(base64.b64decode(evidence["receipts"][0]["receipt"]))
    recorder.run("receipt", "show", "answer.air")
    recorder.run("receipt", "extract", "evidence.json", "--to", "parts")
    cli.ok("diagnose", "--evidence", "batch.json", "bcc.png", "mel.png")
    first = (base / "batch.receipts.jsonl").read_text().splitlines()[0]
    recorder.keep("head -1 batch.receipts.jsonl", json.loads(first))


def machines(examples: dict[str, Example]) -> None:
    """Record what the commands print of enclaves that are virtual machines."""
    with tempfile.TemporaryDirectory(prefix="json-") as folder, nitro_stage(Path(folder)) as stage:
        shutil.copy(stage.image, Path(folder) / "app.eif")
        lock = json.loads(stage.host.lock.read_text())
        lock["eif"]["file"] = "app.eif"
        (Path(folder) / "enclavectl.lock.json").write_text(json.dumps(lock))
        recorder = Recorder(stage.cli, examples)
        recorder.run("run", "app.eif", "--memory", "1024", "--cpus", "2", "--name", "first")
        recorder.run("list")


def images(recorder: Recorder) -> None:
    """Record what the commands about image files print."""
    base = recorder.cli.base
    write_image(base / "old.eif")
    write_image(base / "app.eif", model=b"other weights")
    signing_files(base)
    (base / "damaged.eif").write_bytes((base / "app.eif").read_bytes()[:-20])
    recorder.run("eif", "pcrs", "app.eif")
    recorder.run("eif", "pcrs", "old.eif", "damaged.eif")
    recorder.run("eif", "verify", "damaged.eif")
    recorder.run("eif", "verify", "app.eif", "damaged.eif")
    recorder.run("eif", "diff", "old.eif", "app.eif")
    recorder.run("eif", "sign", "app.eif", "--key", "key.pem", "--cert", "cert.pem", "--to", "signed.eif")
    recorder.run("eif", "show", "signed.eif")
    recorder.run("eif", "show", "app.eif", "damaged.eif")
    recorder.run("eif", "extract", "app.eif", "--to", "parts")
    kernel_tree(_made(base / "tree"))
    recorder.run("kernel", "prepare", "--root", "tree", "--to", "kernel")


def models(recorder: Recorder) -> None:
    """Record what the commands about models print; the demonstration model stands for the published one."""
    recorder.run("model", "show")
    tried = _made(recorder.cli.base / "test")
    for code in ("bcc", "nv"):
        shutil.copy(SAMPLES / f"{code}.png", tried)
    (recorder.cli.base / "test.csv").write_text("file,label\nbcc.png,bcc\nnv.png,nv\n")
    recorder.run("model", "check", "demo-lesion", "--pictures", "test", "--expected", "test.csv")
    (recorder.cli.base / "flowers.tflite").write_bytes(MODELS["f32"]())
    recorder.run("model", "card", "new", "flowers.tflite", "--from", "torchvision")
    content = (PACKAGED_DIR / "model.tflite").read_bytes()
    with serving(sends(content)) as (url, _):
        found = fetch_published(published(url, content), data_dir=recorder.cli.base / "data")
    command = "enclavectl model fetch skin-lesion --output json"
    # Without its license: a sentence about enclavectl, which the check of pages takes for a command.
    value = {key: part for key, part in found.to_json().items() if key != "license"}
    recorder.keep(command, {"schema": FETCH_SCHEMA, **value})
    card = yaml.safe_load((PACKAGED_DIR / "model.yaml").read_text())
    short = {key: value for key, value in card.items() if key not in {"training", "evaluation"}}
    text = yaml.safe_dump(short, sort_keys=False, width=88)
    recorder.keep_file("model", "cat model.yaml", text)


def policies(recorder: Recorder) -> None:
    """Record what the commands about policies print, with the registers of the tests' own documents."""
    cli = recorder.cli
    for number, name in ((0x10, "1.0"), (0x20, "1.1")):
        pcrs = {f"PCR{index}": f"{number + index:02x}" * 48 for index in (0, 1, 2)}
        (cli.base / f"{name}.lock.json").write_bytes(pcrs.lock_sha256.to_bytes())
    (cli.base / "document.bin").write_bytes(EnclaveForge().genuine())
    life = ("--expires", "2027-06-30", "--to", "policy.yaml")
    cli.ok("policy", "new", "--from-lock", "1.0.lock.json", "--name", "1.0", *life)
    shutil.copy(cli.base / "policy.yaml", cli.base / "old.yaml")
    new = ("--name", "1.1", "--notes", "Reviewed by Ada.")
    recorder.run("policy", "add", "policy.yaml", "--from-lock", "1.1.lock.json", *new)
    recorder.run("policy", "show", "policy.yaml", "--at", "2027-06-20")
    recorder.run("policy", "check", "policy.yaml", "--at", "2027-06-20")
    recorder.run("policy", "explain", "policy.yaml", "document.bin", "--at", "document")
    cli.ok("policy", "revoke", "policy.yaml", "1.0", "--reason", "CVE-2027-1234", "--date", "2027-02-01")
    recorder.run("policy", "diff", "old.yaml", "policy.yaml")
    recorder.keep_file("policy", "cat policy.yaml", (cli.base / "policy.yaml").read_text())


def key_policies(recorder: Recorder) -> None:
    """Record what the commands about key policies print: of a good one, a bad one, and a call."""
    base = recorder.cli.base
    pcrs = {f"PCR{index}": f"{0x10 + index:02x}" * 48 for index in (0, 1, 2, 16)}
    (base / "model.lock.json").write_bytes(pcrs.lock_sha256.to_bytes())
    life = ("--name", "1.0", "--expires", "2027-06-30", "--to", "sealed.yaml")
    recorder.cli.ok("policy", "new", "--from-lock", "model.lock.json", *life)
    admin, parent = "arn:aws:iam::111122223333:role/KeyAdmin", "arn:aws:iam::444455556666:role/Parent"
    who = ("--admin", admin, "--parent", parent, "--context", "model=demo-lesion")
    recorder.run("policy", "kms", "--policy", "sealed.yaml", *who)
    statement = {"Sid": "Use", "Effect": "Allow", "Principal": {"AWS": parent}, "Action": "kms:Decrypt"}
    bad = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": "*"}]}
    (base / "bad.json").write_text(json.dumps(bad))
    recorder.run("policy", "kms-lint", "bad.json")
    call = ("--principal", parent, "--context", "model=demo-lesion", "--at", "document")
    recorder.run("policy", "kms-explain", "key-policy.json", "document.bin", *call)


def hosts(recorder: Recorder) -> None:
    """Record what the commands about a host and the configuration print."""
    base = recorder.cli.base
    trees.healthy(base / "host")
    trees.fresh(base / "fresh", "al2023")
    recorder.run("setup", "--dry-run", "--host-root", "fresh")
    recorder.run("doctor", "--fix", "--dry-run", "--host-root", "fresh")
    recorder.run("plan", "--memory", "2048", "--cpus", "2", "--host-root", "host")
    recorder.run("units", "app.eif", "--to", "units")
    recorder.keep_file("config-file", "cat config.yaml", CONFIG)
    (base / "config.yaml").write_text(CONFIG.replace("/etc/enclavectl/", ""))
    recorder.run("config", "show", "--config", "config.yaml")
    recorder.run("config", "path")
    recorder.run("schema")


def fleets(recorder: Recorder) -> None:
    """Record what the commands about a fleet print, of a lock of the tests' own and of a page of metrics."""
    write_lock(recorder.cli.base / "fleet.lock.json")
    by_digest = ("--image", image())
    recorder.run("fleet", "render", "fleet.lock.json", *by_digest, "--cpus", "2", "--to", "k8s")
    recorder.run("fleet", "check", "k8s", "--lock", "fleet.lock.json", "--no-schemas")
    recorder.run("fleet", "node", "fleet.lock.json", "--cpus", "2")
    found = parse_metrics(METRICS, "10.0.1.7:9100")
    recorder.keep("enclavectl fleet status gateway-metrics:9100 --output json", status_json([found]))


def builds(recorder: Recorder) -> None:
    """Record what the commands about a build print; they need an engine and its base image."""
    cli = dataclasses.replace(recorder.cli, variables={**recorder.cli.variables, **docker_environment()})
    base = recorder.cli.base
    blobs = _made(base / "blobs")
    (blobs / "bzImage").write_bytes(samples.bzimage(1 << 16))
    (blobs / "init").write_bytes(b"init")
    (blobs / "nsm.ko").write_bytes(b"nsm")
    recorder = Recorder(cli, recorder.examples)
    arguments = ("build", "--base-image", BASE_IMAGE)
    recorder.run(*arguments, "--dry-run")
    recorder.run(*arguments, "--blobs", "blobs")
    recorder.run("lock", "show")
    recorder.run("lock", "check")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    """Write the page."""
    old = read_page(PAGE.read_text()) if PAGE.exists() else {}
    with recording() as recorder:
        pictures(recorder)
        remotes(recorder)
        images(recorder)
        models(recorder)
        policies(recorder)
        key_policies(recorder)
        hosts(recorder)
        fleets(recorder)
        if BASE_IMAGE:
            builds(recorder)
    machines(recorder.examples)
    PAGE.write_text(render_page({**old, **recorder.examples}))


if __name__ == "__main__":
    main()
