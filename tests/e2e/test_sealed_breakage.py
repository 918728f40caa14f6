"""What breaks a sealed model, through the commands: code, sentence, next step, and nothing left.

``LINES`` says where each line of what can break is tested; a test here holds the names to the files.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import shlex
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from enclave_payload.card import ModelCard, model_register, parse_card
from enclave_payload.sealed import MAGIC, SealedHeader, derive_keys, encode_header
from enclavectl.attestation import Trust, TrustRoot
from enclavectl.client.exchange import new_challenge
from enclavectl.client.session import receive_evidence
from enclavectl.kms import KeyPolicy, parse_key_policy
from enclavectl.models.card import read_card
from enclavectl.models.find import PACKAGED_DIR
from enclavectl.net.frames import FrameStream
from enclavectl.weights.key_file import ModelKey, write_key
from enclavectl.weights.sealed_file import seal_chunks
from tests.e2e.cli import Cli, kill, sample, wait_until
from tests.e2e.parties import Secrets, pieces_of
from tests.in_process import new_root
from tests.models import tiny
from tests.weights.fake_kms import KEY_ARN, FakeKms, fake_kms

TESTS = Path(__file__).resolve().parents[1]
_FORM = "payload/test_sealed.py"
_PORT = "weights/test_release.py"
_COMMANDS = "e2e/test_sealed.py"
_HERE = "e2e/test_sealed_breakage.py"
_NITRO = "nitro/test_sealed.py"
_KMS = "weights/test_kms_release.py"
_CMS = "payload/test_cms.py"
# File and test, without `test_`.
LINES: dict[str, tuple[tuple[str, str], ...]] = {
    "last byte cut": (
        (_FORM, "each_breakage_has_its_own_code"),
        (_HERE, "a_file_that_is_no_whole_sealed_model_starts_nothing"),
    ),
    "last chunk gone": (
        (_FORM, "each_breakage_has_its_own_code"),
        (_PORT, "after_the_key_the_first_bad_chunk_ends_the_enclave"),
    ),
    "two chunks swapped": (
        (_FORM, "each_breakage_has_its_own_code"),
        (_PORT, "after_the_key_the_first_bad_chunk_ends_the_enclave"),
        (_HERE, "a_file_that_was_changed_ends_the_enclave"),
    ),
    "chunk 0 twice": (
        (_FORM, "each_breakage_has_its_own_code"),
        (_PORT, "after_the_key_the_first_bad_chunk_ends_the_enclave"),
    ),
    "one byte more": (
        (_FORM, "each_breakage_has_its_own_code"),
        (_HERE, "a_file_that_is_no_whole_sealed_model_starts_nothing"),
    ),
    "one bit of the header": (
        (_FORM, "another_key_and_another_header_are_told_before_a_chunk_is_opened"),
        (_HERE, "one_bit_of_the_header_is_told_as_a_wrong_key"),
    ),
    "another key": (
        (_FORM, "another_key_and_another_header_are_told_before_a_chunk_is_opened"),
        (_COMMANDS, "wrong_keys_start_nothing_and_leave_nothing"),
    ),
    "one bit of a chunk": (
        (_FORM, "each_breakage_has_its_own_code"),
        (_PORT, "after_the_key_the_first_bad_chunk_ends_the_enclave"),
        (_COMMANDS, "a_damaged_chunk_ends_the_enclave_and_its_last_words_say_so"),
    ),
    "a card of other weights": ((_HERE, "a_file_that_was_changed_ends_the_enclave"),),
    "a card that lies about tensors": (
        (_HERE, "a_card_that_lies_about_its_tensors_is_not_sealed"),
        (_HERE, "a_file_that_was_changed_ends_the_enclave"),
    ),
    "outputs that are no numbers": (
        (_HERE, "a_model_whose_outputs_are_no_numbers_answers_nothing_and_serves_on"),
    ),
    "another model": ((_PORT, "another_model_than_the_keys_gets_nothing_though_the_policy_lets_it_through"),),
    "another runtime, debug, simulated": (
        (_PORT, "the_wrong_enclave_gets_nothing_and_the_log_says_so"),
        (_NITRO, "the_owner_releases_to_the_enclave_that_proves_itself_and_to_no_other"),
    ),
    "a forged key": (
        (_PORT, "a_forged_key_and_another_files_key_are_refused_and_the_right_one_still_counts"),
    ),
    "a replayed release": ((_PORT, "a_recorded_release_opens_in_no_other_session"),),
    "a second Offer, a key before the Offer": (
        (_PORT, "a_key_before_the_offer_and_a_second_offer_are_refused"),
    ),
    "the owner goes half-way": ((_HERE, "an_owner_who_goes_half_way_leaves_no_enclave"),),
    "the enclave goes half-way": ((_HERE, "whoever_waits_for_an_owner_hears_that_the_enclave_has_ended"),),
    "the operator's command goes half-way": (
        (_HERE, "an_enclave_does_not_outlive_the_command_that_brings_its_weights"),
    ),
    "the lease is over": (
        (_COMMANDS, "the_enclave_serves_nobody_before_it_has_its_key_and_ends_with_its_lease"),
    ),
    "a forged CMS, and no padding oracle": (
        (_KMS, "a_forged_answer_is_no_key"),
        (_CMS, "padding_structure_and_key_cannot_be_told_apart"),
    ),
    "KMS: another context, another runtime": (
        (_KMS, "another_runtime_and_another_context_are_denied_with_the_next_step"),
        (_HERE, "kms_releases_by_its_policy_and_each_refusal_names_the_next_step"),
    ),
}


def test_every_line_of_what_can_break_has_its_tests() -> None:
    for line, names in LINES.items():
        for file, name in names:
            tree = ast.parse((TESTS / file).read_text())
            found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert f"test_{name}" in found, line


def seal(cli: Cli) -> Path:
    cli.ok("model", "seal", "demo-lesion", "--to", "m.sealed")
    return cli.base / "m.sealed"


RUN = ("run", "--model", "m.sealed", "--release", "file:m.key")


def test_a_file_that_is_no_whole_sealed_model_starts_nothing(cli: Cli) -> None:
    path = seal(cli)
    data = path.read_bytes()
    for changed, code in ((data[:-1], "truncated"), (data + b"x", "trailing"), (data[1:], "magic")):
        path.write_bytes(changed)
        error = cli.refused(2, *RUN)
        assert (error["code"], bool(error["hint"])) == (code, True)
    assert not cli.enclave_folders()


@dataclass(frozen=True, slots=True)
class Forgery:
    """A sealed file that ``model seal`` would not write: a card, weights, and changes behind its header."""

    card: ModelCard
    weights: bytes
    change: Callable[[list[bytes]], list[bytes]] = list

    def write(self, cli: Cli) -> None:
        """Write it with its key."""
        draft = SealedHeader(raw=b"", card=self.card, size=len(self.weights), file_id=bytes(16), release={})
        raw, key = encode_header(draft), bytes(range(32))
        chunk_key, check = derive_keys(key, raw)
        chunks = b"".join(self.change(list(seal_chunks(self.weights, chunk_key))))
        (cli.base / "m.sealed").write_bytes(MAGIC + len(raw).to_bytes(4, "big") + raw + check + chunks)
        register = model_register(self.card.to_json())
        secret = ModelKey(model_id=self.card.model_id, file_id=bytes(16), key=key, register=register)
        write_key(cli.base / "m.key", secret)


CARD = read_card(PACKAGED_DIR / "model.yaml").card
WEIGHTS = (PACKAGED_DIR / "model.tflite").read_bytes()
WIDER = replace(CARD, input=replace(CARD.input, width=CARD.input.width + 1))
CHANGED: dict[str, tuple[Forgery, str]] = {
    "chunks swapped": (Forgery(CARD, WEIGHTS, lambda c: [c[1], c[0], *c[2:]]), "cannot be opened: chunk-0"),
    "a card of other weights": (Forgery(replace(CARD, sha256="ab" * 32), WEIGHTS), "SHA-256"),
    "a card that lies about tensors": (Forgery(WIDER, WEIGHTS), "the card implies"),
    "weights that are none": (Forgery(replace(CARD, sha256=hashlib.sha256(b"x").hexdigest()), b"x"), "model"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_file_that_was_changed_ends_the_enclave(cli: Cli, what: str) -> None:
    forgery, words = CHANGED[what]
    forgery.write(cli)
    error = cli.refused(5, *RUN)
    assert error["code"] == "payload-ended"
    assert words in error["message"]
    cli.assert_nothing_left()
    secrets = Secrets(weights=pieces_of(WEIGHTS), key=bytes(range(32)))
    assert secrets.in_files(cli.base) == {"m.key": {"key"}}


def test_one_bit_of_the_header_is_told_as_a_wrong_key(cli: Cli) -> None:
    cli.ok("model", "seal", "demo-lesion", "--to", "m.sealed", "--owner", "tls:owner.example:7443")
    path = cli.base / "m.sealed"
    path.write_bytes(path.read_bytes().replace(b"owner.example", b"owner.exbmple"))
    assert cli.refused(5, *RUN)["code"] == "wrong-key"


def tiny_model(cli: Cli, **changes: object) -> Path:
    """The card and the weights of a tiny model of three labels."""
    weights = tiny.MODELS["f32"]()
    (cli.base / "model.tflite").write_bytes(weights)
    (cli.base / "model.yaml").write_text(
        yaml.safe_dump(
            {
                "schema": "enclavectl.model/2",
                "id": "tiny",
                "title": "Tiny",
                "file": "model.tflite",
                "sha256": hashlib.sha256(weights).hexdigest(),
                "input": {
                    "width": 8,
                    "height": 8,
                    "fit": "stretch",
                    "filter": "bilinear",
                    "mean": 127.5,
                    "std": 127.5,
                    **changes,
                },
                "output": {"scores": "softmax"},
                "labels": [{"code": code, "name": code.upper()} for code in "abc"],
                "notice": "A test.",
            }
        )
    )
    return cli.base / "model.yaml"


def test_a_card_that_lies_about_its_tensors_is_not_sealed(cli: Cli) -> None:
    error = cli.refused(2, "model", "seal", tiny_model(cli, width=9), "--to", "m.sealed")
    assert "9" in error["message"]
    assert not [*cli.base.glob("m.*")]
    cli.ok("model", "seal", tiny_model(cli), "--to", "m.sealed")


def test_a_model_whose_outputs_are_no_numbers_answers_nothing_and_serves_on(cli: Cli) -> None:
    card = parse_card(read_card(tiny_model(cli)).card.to_json())
    finite = struct.pack("<f", tiny.bias(0))
    weights = (cli.base / "model.tflite").read_bytes()
    weights = weights.replace(finite, struct.pack("<f", float("nan")))
    assert weights.count(struct.pack("<f", float("nan")))
    Forgery(replace(card, sha256=hashlib.sha256(weights).hexdigest()), weights).write(cli)
    cli.ok(*RUN, "--name", "nan")
    for _ in range(2):
        value = cli.run("diagnose", sample("nv"), "--output", "json").json()
        assert value["results"][0]["error"]["code"] == "model-failed"
    cli.ok("terminate", "nan")


def is_measured(cli: Cli) -> bool:
    found = cli.ok("list", "--output", "json").json()["enclaves"]
    return [one["weights"]["state"] for one in found] == ["MEASURED"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_an_owner_who_goes_half_way_leaves_no_enclave(cli: Cli) -> None:
    seal(cli)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def ask_and_go() -> None:
            sock, _ = listener.accept()
            stream = FrameStream(sock, "the enclave", is_remote=True)
            receive_evidence(stream, new_challenge(), time.monotonic() + 60)
            stream.close()

        owner = threading.Thread(target=ask_and_go)
        owner.start()
        release = ("--release", f"tcp:127.0.0.1:{listener.getsockname()[1]}")
        error = cli.refused(5, "run", "--model", "m.sealed", *release)
        owner.join()
    assert (error["code"], "still MEASURED" in error["message"]) == ("not-released", True)
    cli.assert_nothing_left()


def test_whoever_waits_for_an_owner_hears_that_the_enclave_has_ended(cli: Cli) -> None:
    seal(cli)
    release = ("--release", f"tcp:127.0.0.1:{free_port()}")
    waiting = cli.start("run", "--model", "m.sealed", *release, "--output", "json")
    wait_until(lambda: is_measured(cli), "it is measured")
    kill(cli.processes()[0])
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 5, err
    assert json.loads(out)["error"]["code"] == "payload-ended"
    cli.assert_nothing_left()


def test_an_enclave_does_not_outlive_the_command_that_brings_its_weights(cli: Cli) -> None:
    seal(cli)
    waiting = cli.start("run", "--model", "m.sealed")
    wait_until(lambda: is_measured(cli), "it is measured")
    waiting.kill()
    waiting.communicate()
    cli.assert_nothing_left()


OWNER, PARENT = "arn:aws:iam::111122223333:role/KeyAdmin", "arn:aws:iam::444455556666:role/EnclaveParent"


def with_credentials(cli: Cli, kms: FakeKms, key_id: str, secret: str) -> Cli:
    names = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL_KMS": kms.url}
    return replace(cli, variables=names)


def test_kms_releases_by_its_policy_and_each_refusal_names_the_next_step(cli: Cli) -> None:
    root = TrustRoot.from_pem(new_root().certificate_pem, trust=Trust.SIMULATED, name="none yet")
    service = FakeKms(root=root, callers={"OWNER": ("o", OWNER), "PARENT": ("p", PARENT)})
    with fake_kms(service):
        owner, parent = (with_credentials(cli, service, who, who[0].lower()) for who in ("OWNER", "PARENT"))
        sealing = ("model", "seal", "demo-lesion", "--to", "m.sealed", "--kms-key")
        assert owner.refused(2, *sealing, KEY_ARN.replace(":key/", ":alias/"))["code"] == "kms-key"
        assert owner.refused(2, *sealing, KEY_ARN.replace("eu-", "us-"))["code"] == "kms-refused"
        assert not [*cli.base.glob("m.*")]
        sealed = owner.ok(*sealing, KEY_ARN, "--output", "json").json()
        # A trial of the owner's has the registers of this runtime.
        cli.ok(*RUN, "--name", "trial")
        cli.ok("describe", "trial", "--policy-file", "p.yaml")
        cli.ok("terminate", "trial")
        service.root = TrustRoot.from_pem(cli.root.read_bytes(), trust=Trust.SIMULATED, name="test root")
        policy = (cli.base / "p.yaml").read_text().replace("accept: [simulated]", "accept: [nitro]")
        (cli.base / "nitro.yaml").write_text(policy)

        def compiled(file: str) -> KeyPolicy:
            made = ("policy", "kms", "--policy", "nitro.yaml", "--admin", OWNER, "--parent", PARENT)
            context = ("--context", "model=demo-lesion", "--context", f"file={file}")
            cli.ok(*made, *context, "--force")
            return parse_key_policy((cli.base / "key-policy.json").read_bytes(), source="key-policy.json")

        run = ("run", "--name", "skin", "--model", "m.sealed", "--release", "kms")
        service.policy = compiled("00" * 16)
        denied = parent.refused(4, *run)
        assert denied["code"] == "kms-access-denied"
        # The hint is a command, but for the key policy's file and the caller.
        hint = denied["hint"].replace("KEY-POLICY", "key-policy.json").replace("ARN", PARENT)
        explained = cli.run(*shlex.split(hint)[1:])
        assert explained.status == 4
        assert "kms:EncryptionContext:file" in explained.out
        expired = with_credentials(cli, service, "EXPIRED", "x").refused(2, *run)
        assert (expired["code"], "renew" in expired["hint"]) == ("kms-credentials", True)
        service.policy = compiled(sealed["file_id"])
        parent.ok(*run)
        assert (
            cli.ok("diagnose", sample("nv"), "--output", "json").json()["results"][0]["label"]["code"] == "nv"
        )
        cli.ok("terminate", "skin")
        key = json.loads((cli.base / "m.key").read_text())["key"]
        said = json.dumps([call for call in service.calls if "Plaintext" not in call])
        assert base64.b64encode(bytes.fromhex(key)).decode() not in said
        secrets = Secrets(weights=pieces_of(WEIGHTS), key=bytes.fromhex(key))
        assert secrets.in_files(cli.base) == {"m.key": {"key"}}
