"""Real parts: a distribution's kernel and our init boot the very image that ``build`` wrote, and it serves.

QEMU emulates the NSM. Its attestation documents have the real registers, but nobody's signature, so this is
``emulated`` and never ``nitro``: the client must refuse it, and the inference here is asked for by the
payload's own modules, without one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from enclave_payload.card import MODEL_PCR, model_register
from enclave_payload.contents import Delivery, key_config_digest
from enclave_payload.media import MediaType
from enclave_payload.messages import AnswerKind, RefusalCode
from enclave_payload.seal import SuiteId
from enclave_payload.verdict import Problem
from enclavectl.artifacts.lock import Lock, read_lock
from enclavectl.attestation import Policy, Release, Trust, aws_nitro_root, render_policy, verify
from enclavectl.client.formats import media_type_of
from enclavectl.errors import AttestationError
from enclavectl.evidence import parse_receipt
from enclavectl.evidence.air import check_signature
from enclavectl.image.kernel import find_compiler
from enclavectl.net.transport import listening
from enclavectl.protocol.answers import taken_frame
from enclavectl.protocol.evidence import Evidence
from enclavectl.protocol.key_config import parse_key_config
from tests.cli.command import Done, enclavectl
from tests.eif import samples
from tests.image.engine import BASE_IMAGE, docker_environment
from tests.image.guest import HEARTBEAT, Guest, Host, Parts, qemu_parts, start_host
from tests.payload.serving import NONCE, Peer, opened, opened_content

pytestmark = [pytest.mark.qemu, pytest.mark.docker, pytest.mark.timeout(900)]

SAMPLES = Path(__file__).parents[2] / "samples"
SERVES, LISTENS = 5005, 5006


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A home with prepared boot files, a folder for images, and what reaches the Docker engine."""

    home: Path
    environ: dict[str, str]
    compiler: Path

    def run(self, *arguments: object, home: Path | None = None) -> Done:
        arguments = (*arguments, "--output", "json")
        return enclavectl(*arguments, home=home or self.home, environ=self.environ, timeout_s=500)

    def build(self, name: str, *arguments: object) -> Path:
        """An enclave image in the home."""
        image = self.home / f"{name}.eif"
        outputs = ["--to", image, "--lock", self.home / f"{name}.lock.json"]
        done = self.run("build", "--blobs", self.home / "blobs", *outputs, *arguments)
        assert done.status == 0, done.err
        return image

    def pcrs(self, image: Path) -> dict[str, str]:
        """What ``eif pcrs`` prints."""
        found = self.run("eif", "pcrs", image).json()
        return {name: str(value) for name, value in found.items() if name.startswith("PCR")}

    def lock(self, name: str) -> Lock:
        """The lock of an image that ``build`` made."""
        return read_lock(self.home / f"{name}.lock.json")

    @contextmanager
    def tagged(self, image_id: str, name: str, tag: str) -> Iterator[None]:
        """A name for a Docker image, for a Dockerfile that begins with it."""
        import docker

        client = docker.DockerClient(base_url=self.environ["DOCKER_HOST"])
        try:
            assert client.images.get(image_id).tag(name, tag)
            yield
            client.images.remove(f"{name}:{tag}")
        finally:
            client.close()

    def compile(self, name: str) -> bytes:
        """A program of these tests, static."""
        target = self.home / name
        source = Path(__file__).with_name(f"{name}.c")
        subprocess.run([self.compiler, "-static", "-Os", "-s", "-o", target, source], check=True, timeout=120)
        return target.read_bytes()


@pytest.fixture(scope="module")
def parts() -> Parts:
    return qemu_parts()


@pytest.fixture(scope="module")
def lane(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Lane:
    home = tmp_path_factory.mktemp("home")
    compiler = find_compiler(os.environ.get("PATH"))
    lane = Lane(home=home, environ=dict(docker_environment()), compiler=compiler)
    done = lane.run("kernel", "prepare", "--root", parts.kernel_root, "--to", home / "blobs")
    assert done.status == 0, done.err
    return lane


@pytest.fixture(scope="module")
def host(parts: Parts) -> Iterator[Host]:
    with start_host(parts) as host:
        yield host


@pytest.fixture(scope="module")
def image(lane: Lane) -> Path:
    """The payload with the demo model."""
    return lane.build("payload", "--base-image", BASE_IMAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    guest: Guest
    heartbeat: bytes

    def connect(self) -> Peer:
        return Peer(self.guest.connect(SERVES))


@pytest.fixture(scope="module")
def booted(host: Host, image: Path) -> Iterator[Booted]:
    with host.boot(image) as guest:
        yield Booted(guest=guest, heartbeat=host.exchange_heartbeat(guest))


def claims_of(evidence: Evidence) -> dict[str, object]:
    """The fields of a document of QEMU's, and that nobody vouches for them."""
    _, _, payload, signature = cbor2.loads(evidence.document)
    claims = cbor2.loads(payload)
    assert isinstance(claims, dict)
    assert not any(signature), "QEMU has begun to sign: is this still only emulated?"
    assert not any(claims["certificate"])
    return claims


def pcrs_of(claims: dict[str, object]) -> dict[int, bytes]:
    registers = claims["pcrs"]
    assert isinstance(registers, dict)
    return registers


def hex_pcrs(claims: dict[str, object], *indexes: int) -> dict[str, str]:
    return {f"PCR{index}": pcrs_of(claims)[index].hex() for index in indexes}


def encoded(kind: MediaType, name: str = "bcc") -> bytes:
    """A sample in another format."""
    file = BytesIO()
    with Image.open(SAMPLES / f"{name}.png") as picture:
        picture.convert("RGB").save(file, kind.name, **({"quality": 95} if kind is MediaType.JPEG else {}))
    return file.getvalue()


def test_our_init_exchanges_the_heartbeat(booted: Booted) -> None:
    assert booted.heartbeat == HEARTBEAT


def test_the_document_has_the_pcrs_that_were_printed_and_our_nonce(
    booted: Booted, lane: Lane, image: Path
) -> None:
    with booted.connect() as peer:
        evidence = peer.challenge().evidence
    claims = claims_of(evidence)
    assert claims["nonce"] == NONCE
    assert claims["user_data"] == key_config_digest(evidence.key_config)
    assert hex_pcrs(claims, 0, 1, 2) == lane.pcrs(image)
    assert set(parse_key_config(evidence.key_config).public_keys) == set(SuiteId)


def test_the_guest_has_pinned_its_model_and_locked_every_register(booted: Booted, lane: Lane) -> None:
    with booted.connect() as peer:
        evidence = peer.challenge().evidence
    claims = claims_of(evidence)
    assert hex_pcrs(claims, *range(32)).keys() == {f"PCR{index}" for index in range(32)}
    card = parse_key_config(evidence.key_config).card
    assert hex_pcrs(claims, MODEL_PCR)["PCR16"] == model_register(card.to_json()).hex()
    assert hex_pcrs(claims, 0, 1, 2, MODEL_PCR) == lane.lock("payload").pcrs


def test_no_other_process_of_the_guest_holds_the_nsm(
    lane: Lane, host: Host, image: Path, tmp_path: Path
) -> None:
    """The payload's own image, started by a probe that lists who has /dev/nsm open."""
    assert image.exists()
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(Path(__file__).with_name("holders.py"), context)
    (context / "Dockerfile").write_text(
        "FROM enclavectl-test-payload:1\nCOPY holders.py /holders.py\n"
        'CMD ["/usr/bin/enclave-python", "-I", "/holders.py"]\n'
    )
    with lane.tagged(str(lane.lock("payload").image["id"]), "enclavectl-test-payload", "1"):
        made = lane.build("holders", "--dockerfile", context)
    with host.boot(made) as guest:
        assert host.exchange_heartbeat(guest) == HEARTBEAT
        with Peer(guest.connect(SERVES)) as peer:
            assert set(range(32)) == set(pcrs_of(claims_of(peer.challenge().evidence)))
        before = guest.console().count("holders: ")
        guest.wait_for(lambda: guest.console().count("holders: ") > before + 1)
        found = re.findall(r"holders: (\d+) of (\d+)", guest.console())[-1]
    assert found[0] == "1"
    assert int(found[1]) >= 4, "the attester, the zygote and two decoders"


def test_the_client_refuses_what_nobody_signed(
    booted: Booted, lane: Lane, image: Path, tmp_path: Path
) -> None:
    """Even with exactly these PCRs in its policy, and before anything of a picture is sent."""
    policy = tmp_path / "policy.yaml"
    release = Release(
        name="this one", pcrs={i: bytes.fromhex(lane.pcrs(image)[f"PCR{i}"]) for i in (0, 1, 2)}
    )
    wanted = Policy(accept=frozenset({Trust.NITRO}), releases=(release,))
    policy.write_text(render_policy(wanted))
    address = booted.guest.address(SERVES)
    booted.connect().sock.close()
    done = lane.run(
        *("diagnose", "--connect", address, "--policy", policy, SAMPLES / "bcc.png"), home=tmp_path
    )
    assert done.status == 4, done.err
    assert done.error()["code"] == "cose-algorithm"
    with booted.connect() as peer:
        evidence = peer.challenge().evidence
    forged = evidence.document.replace(
        b"\x43\xa1\x01\x20", b"\x44\xa1\x01\x38\x22", 1
    )  # ES384, as AWS writes it
    with pytest.raises(AttestationError):
        verify(
            forged,
            wanted,
            root=aws_nitro_root(),
            nonce=NONCE,
            user_data=key_config_digest(evidence.key_config),
            now=datetime.now(UTC),
        )
    assert forged != evidence.document


def test_it_classifies_samples(booted: Booted) -> None:
    """In the default suite; the other tests ask in the other one."""
    with booted.connect() as peer:
        peer.challenge()
        for counter, path in enumerate(SAMPLES / f"{kind}.png" for kind in ("mel", "nv", "vasc")):
            peer.send(peer.request_frame(counter, path.read_bytes(), suite=min(SuiteId)))
            number, outcome = peer.next_outcome()
            assert number == counter
            assert outcome.problem is None
            assert outcome.model_id == "demo-lesion"
            assert outcome.probabilities_ppb is not None
            assert max(outcome.probabilities_ppb, key=outcome.probabilities_ppb.__getitem__) == path.stem


def test_it_signs_answers_with_the_key_in_its_document(booted: Booted) -> None:
    """To the payload QEMU's NSM is a real one, so it says production: only the document's trust counts."""
    with booted.connect() as peer:
        evidence = peer.challenge().evidence
        peer.send(peer.request_frame(0, (SAMPLES / "mel.png").read_bytes()))
        content = opened_content(peer.next_answer())
    assert content.receipt is not None
    receipt, claims = parse_receipt(content.receipt), claims_of(evidence)
    public_key = claims["public_key"]
    assert isinstance(public_key, bytes)
    check_signature(receipt, public_key)
    assert receipt.security_mode == "production"
    assert receipt.eat_nonce == NONCE
    assert receipt.attestation_doc_hash == sha256(evidence.document).digest()
    pcrs = pcrs_of(claims)
    assert {0, 1, 2} <= receipt.pcrs.keys() <= {0, 1, 2, 3, 4, 8}
    assert all(pcrs[index] == register for index, register in receipt.pcrs.items())


@pytest.mark.parametrize("kind", MediaType)
def test_it_reads_every_kind_of_picture(booted: Booted, kind: MediaType) -> None:
    picture = encoded(kind)
    assert media_type_of(picture) is kind
    with booted.connect() as peer:
        peer.challenge()
        peer.send(peer.request_frame(0, picture, media_type=kind))
        _, outcome = peer.next_outcome()
        assert outcome.probabilities_ppb is not None, outcome.problem
        assert max(outcome.probabilities_ppb, key=outcome.probabilities_ppb.__getitem__) == "bcc"
        peer.send(peer.request_frame(1, picture[: len(picture) // 2], media_type=kind))
        assert peer.next_outcome()[1].problem is Problem.UNREADABLE


def test_it_refuses_a_replay_and_goes_on_serving(booted: Booted) -> None:
    with booted.connect() as peer:
        request = peer.challenge().request_frame(0, encoded(MediaType.PNG))
        peer.send(request)
        assert peer.next_outcome()[1].problem is None
        peer.send(request)
        peer.assert_ended(RefusalCode.REPLAYED)
    with booted.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        peer.assert_ended(RefusalCode.PROTOCOL)
    with booted.connect() as peer:
        peer.challenge().send(peer.request_frame(0, encoded(MediaType.PNG)))
        assert peer.next_outcome()[1].problem is None


def test_it_dials_the_parents_listener_and_delivers_there(booted: Booted, host: Host) -> None:
    with listening(host.parent_port(LISTENS)) as listener:
        listener.settimeout(200)
        with Peer(listener.accept()[0]) as parent, booted.connect() as peer:
            claims = claims_of(parent.challenge().evidence)
            assert claims["nonce"] == NONCE
            request = peer.challenge().request_frame(3, encoded(MediaType.PNG), delivery=Delivery.OUT)
            peer.send(request)
            receipt = peer.next_answer()
            assert receipt.kind is AnswerKind.RECEIPT
            answer = parent.next_answer()
            counter, outcome = opened(answer)
            assert counter == 3
            assert outcome.problem is None
            parent.send(taken_frame(answer.request_id))


def test_a_signed_image_attests_its_certificate(lane: Lane, host: Host, image: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (lane.home / "key.pem").write_bytes(samples.key_pem(key))
    (lane.home / "cert.pem").write_bytes(
        samples.certificate(key, start=datetime.now(UTC) - timedelta(days=1))
    )
    signed = lane.home / "signed.eif"
    files = ["--key", lane.home / "key.pem", "--cert", lane.home / "cert.pem", "--to", signed]
    assert lane.run("eif", "sign", image, *files).status == 0
    with host.boot(signed) as guest:
        assert host.exchange_heartbeat(guest) == HEARTBEAT
        with Peer(guest.connect(SERVES)) as peer:
            claims = claims_of(peer.challenge().evidence)
    assert hex_pcrs(claims, 0, 1, 2, 8) == lane.pcrs(signed)
    assert lane.pcrs(signed) == {**lane.pcrs(image), "PCR8": hex_pcrs(claims, 8)["PCR8"]}


def test_an_image_in_nitro_clis_form_serves(lane: Lane, host: Host) -> None:
    made = lane.build("nitro", "--base-image", BASE_IMAGE, "--mode", "nitro-cli")
    with host.boot(made) as guest:
        assert host.exchange_heartbeat(guest) == HEARTBEAT
        with Peer(guest.connect(SERVES)) as peer:
            claims = claims_of(peer.challenge().evidence)
            assert hex_pcrs(claims, 0, 1, 2) == lane.pcrs(made)
            peer.send(peer.request_frame(0, encoded(MediaType.PNG)))
            assert peer.next_outcome()[1].problem is None


DOCKERFILE = """FROM scratch
COPY probe /usr/bin/probe
ENV ONE=1 TWO="a b" PATH=/nowhere
CMD ["probe", "first word", ""]
"""


def test_init_gives_a_command_what_nitro_clis_would(lane: Lane, host: Host, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "probe").write_bytes(lane.compile("probe"))
    (context / "probe").chmod(0o755)
    made = lane.build("probe", "--dockerfile", context, "--allow", "relative-command=init looks for it")
    with host.boot(made) as guest:
        assert host.exchange_heartbeat(guest) == HEARTBEAT
        guest.wait_ended()  # and not before the command: the orphan's end is none of the enclave
        said = guest.console().replace("\r", "")
    words = re.findall(r"^probe: (.*)$", said, re.MULTILINE)
    assert words[:3] == ["word [probe]", "word [first word]", "word []"]
    environment = {word.partition(" ")[2] for word in words if word.startswith("environment ")}
    assert environment == {"[ONE=1]", "[TWO=a b]", "[PATH=/nowhere]"}
    mounts = dict(word.split()[1:] for word in words if word.startswith("mount "))
    expected = {"/dev": "devtmpfs", "/proc": "proc", "/run": "tmpfs", "/tmp": "tmpfs", "/sys": "sysfs"}
    expected |= {"/dev/shm": "tmpfs", "/dev/pts": "devpts", "/sys/fs/cgroup": "tmpfs"}
    assert mounts.items() >= expected.items()
    assert "stdin /proc/self/fd/0, process" in said
    assert "session own" in said
    assert "nsm present, boot files gone" in said
    assert "init: the command ended with status 7" in said
