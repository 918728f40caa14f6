"""The release by KMS: the key policy decides, and only the enclave opens the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from enclave_payload.card import MODEL_PCR
from enclave_payload.cbor import Value
from enclave_payload.release import State
from enclavectl.attestation import Trust, TrustRoot
from enclavectl.errors import AttestationError, EnclaveError, HostError, NetworkError, UsageError
from enclavectl.kms.compile import KeyPolicyRequest, compile_key_policy
from enclavectl.kms.releases import KeyRelease
from enclavectl.progress import NoProgress
from enclavectl.weights.bringing import KmsRelease, bring_model
from enclavectl.weights.credentials import Credentials, find_credentials
from enclavectl.weights.kms_call import Kms, parse_key_arn, post, sign, signing_key
from enclavectl.weights.release_port import ReleaseConnection
from enclavectl.weights.sealed_file import SealedFile
from tests.in_process import PCRS, new_root
from tests.net.certificates import Authority, server_context
from tests.net.peers import start_web_server
from tests.weights.fake_kms import KEY_ARN, FakeKms, fake_kms
from tests.weights.port import Port, release_port
from tests.weights.sealing import KEY, WEIGHTS, sealed_in
from tests.weights.test_release import PATIENCE_S

ROOT = new_root()
OWNER = "arn:aws:iam::111122223333:role/KeyAdmin"
PARENT = "arn:aws:iam::444455556666:role/EnclaveParent"
CREDENTIALS = {
    "owner": Credentials(key_id="OWNER", secret="o"),
    "parent": Credentials(key_id="PARENT", secret="p"),
}
CONTEXT: dict[str, str] = {"model": "demo", "file": "0011"}
HEADER_CONTEXT: dict[int | str, Value] = {"model": "demo", "file": "0011"}


@pytest.fixture
def kms() -> Iterator[FakeKms]:
    root = TrustRoot.from_pem(ROOT.certificate_pem, trust=Trust.SIMULATED, name="test root")
    service = FakeKms(root=root, callers={"OWNER": ("o", OWNER), "PARENT": ("p", PARENT)})
    with fake_kms(service):
        yield service


def client(service: FakeKms, who: str = "parent") -> Kms:
    return Kms(key=parse_key_arn(KEY_ARN), credentials=CREDENTIALS[who], endpoint=service.url)


def sealed_for(service: FakeKms, folder: Path) -> tuple[SealedFile, bytes]:
    """Seal, and put the key policy that the compiler writes for the file."""
    blob = client(service, "owner").encrypt(KEY, CONTEXT)
    sealed, _ = sealed_in(folder, release={"kms": {"key": KEY_ARN, "blob": blob, "context": HEADER_CONTEXT}})
    service.policy = compile_key_policy(
        KeyPolicyRequest(
            releases=(
                KeyRelease(
                    name="runtime", pcrs={**{i: PCRS[i] for i in (0, 1, 2)}, MODEL_PCR: sealed.register}
                ),
            ),
            admin=OWNER,
            parents=(PARENT,),
            context=CONTEXT,
        )
    )
    return sealed, blob


def bring(port: Port, sealed: SealedFile, source: KmsRelease) -> None:
    bring_model(port.address, sealed, source, NoProgress(), boot_s=0, is_alive=lambda: True)


def state(port: Port) -> State:
    with ReleaseConnection(port.address, PATIENCE_S) as connection:
        return connection.status().state


def test_the_right_enclave_gets_the_key_and_the_parent_never_sees_it(tmp_path: Path, kms: FakeKms) -> None:
    sealed, blob = sealed_for(kms, tmp_path)
    with release_port(tmp_path, ROOT) as port:
        bring(port, sealed, KmsRelease(kms=client(kms), blob=blob, context=CONTEXT))
        assert state(port) is State.SERVING
        assert bytes(port.weights) == WEIGHTS


def test_another_runtime_and_another_context_are_denied_with_the_next_step(
    tmp_path: Path, kms: FakeKms
) -> None:
    sealed, blob = sealed_for(kms, tmp_path)
    cases = [({**PCRS, 2: b"\7" * 48}, CONTEXT), (PCRS, {**CONTEXT, "file": "0012"})]
    for number, (pcrs, context) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        with release_port(folder, ROOT, pcrs=pcrs) as port:
            with pytest.raises(AttestationError) as caught:
                bring(port, sealed, KmsRelease(kms=client(kms), blob=blob, context=context))
            assert caught.value.code == "kms-access-denied"
            assert "policy kms-explain" in (caught.value.hint or "")
            assert state(port) is State.MEASURED


def test_a_forged_answer_is_no_key(tmp_path: Path, kms: FakeKms) -> None:
    """Whoever knows the enclave's RSA key can encrypt a key to it: the file's check refuses it."""
    sealed, blob = sealed_for(kms, tmp_path)
    kms.forged = bytes(32)
    with release_port(tmp_path, ROOT) as port:
        with pytest.raises(EnclaveError) as caught:
            bring(port, sealed, KmsRelease(kms=client(kms), blob=blob, context=CONTEXT))
        assert caught.value.code == "not-for-us"
        assert state(port) is State.MEASURED
        with ReleaseConnection(port.address, PATIENCE_S) as connection:
            for answer in (b"", b"junk", bytes(493)):
                with pytest.raises(EnclaveError) as again:
                    connection.bring_kms_answer(answer)
                assert again.value.message == caught.value.message, "one error for all"


def test_a_decrypt_without_a_document_is_denied(tmp_path: Path, kms: FakeKms) -> None:
    sealed_for(kms, tmp_path)
    body = json.dumps({"KeyId": KEY_ARN, "CiphertextBlob": "YmxvYiAw", "EncryptionContext": CONTEXT}).encode()
    status, answer = post(kms.url, "Decrypt", body, CREDENTIALS["parent"], "eu-central-1")
    assert (status, json.loads(answer)["__type"]) == (400, "AccessDeniedException")


def test_bad_credentials_another_region_and_an_alias_are_named(kms: FakeKms) -> None:
    expired = Kms(
        key=parse_key_arn(KEY_ARN), credentials=Credentials(key_id="X", secret="x"), endpoint=kms.url
    )
    with pytest.raises(UsageError) as caught:
        expired.encrypt(KEY, CONTEXT)
    assert caught.value.code == "kms-credentials"
    kms.key = KEY_ARN.replace("eu-central-1", "us-east-1")
    with pytest.raises(UsageError) as other:
        client(kms, "owner").encrypt(KEY, CONTEXT)
    assert (other.value.code, "NotFound" in other.value.message) == ("kms-refused", True)
    for text in ("alias/mine", "arn:aws:kms:eu-central-1:111122223333:alias/mine", "0b5f9d5e"):
        with pytest.raises(UsageError) as wrong:
            parse_key_arn(text)
        assert wrong.value.code == "kms-key"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("end", ["\r", "\n", " ", "\N{EURO SIGN}", "\0"], ids=ascii)
def test_credentials_with_another_character_are_refused_and_not_shown(name: str, end: str) -> None:
    """As a header they would be an exception of Python's, with the whole token in its text."""
    words = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    environ = {**dict.fromkeys(words, "good"), name: f"T0P-SECRET{end}"}
    with pytest.raises(UsageError) as caught:
        find_credentials(environ)
    assert caught.value.code == "kms-credentials"
    assert "T0P" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "endpoint",
    [
        *("https://h:99999", "https://h:x", "https://[::1", "https://a b", "https://a\nb", "https://u:p@h"),
        *("ftp://h", "http://kms.example", ""),
    ],
)
def test_an_endpoint_that_is_no_address_is_a_usage_error(endpoint: str) -> None:
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL_KMS"):
        post(endpoint, "Encrypt", b"{}", CREDENTIALS["owner"], "eu-central-1")


def test_a_service_that_no_ca_vouches_for_is_told_from_one_that_cannot_be_reached(tmp_path: Path) -> None:
    context = server_context(Authority(tmp_path).issue("127.0.0.1"))
    with start_web_server(b"", context) as peer, pytest.raises(NetworkError) as caught:
        post(f"https://127.0.0.1:{peer.port}", "Decrypt", b"{}", CREDENTIALS["parent"], "eu-central-1")
    assert (caught.value.code, "SSL_CERT_FILE" in str(caught.value.hint)) == ("kms-certificate", True)
    with pytest.raises(NetworkError) as gone:
        post(f"https://127.0.0.1:{peer.port}", "Decrypt", b"{}", CREDENTIALS["parent"], "eu-central-1")
    assert gone.value.code == "kms-unreachable"


def test_a_service_that_answers_in_the_clear_is_refused(kms: FakeKms, tmp_path: Path) -> None:
    """As moto does."""
    _, blob = sealed_for(kms, tmp_path)
    kms.policy = None
    kms.is_blind = True
    with pytest.raises(HostError) as caught:
        client(kms).decrypt_for(b"document", blob, CONTEXT)
    assert caught.value.code == "kms-plaintext"


@pytest.mark.parametrize("blob", ["bl\u00e4b", "a", "", 5])
def test_a_blob_that_is_no_base64_is_no_answer_of_kms(kms: FakeKms, blob: object) -> None:
    class OddKms(FakeKms):
        def answer(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, object]]:
            super().answer(headers, body)
            return 200, {"KeyId": KEY_ARN, "CiphertextBlob": blob}

    with fake_kms(OddKms(root=kms.root, callers=kms.callers)) as odd, pytest.raises(NetworkError) as caught:
        client(odd, "owner").encrypt(KEY, CONTEXT)
    assert caught.value.code == "kms-answer"


def test_the_signing_key_is_that_of_awss_example() -> None:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-examples.html, of 2015-08-30."""
    key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830/us-east-1/iam/aws4_request")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


def test_a_roles_token_is_signed_as_well() -> None:
    credentials = Credentials(key_id="AKIDEXAMPLE", secret="s", token="tok")
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": "kms.eu-central-1.amazonaws.com",
        "x-amz-date": "20261128T120000Z",
        "x-amz-target": "TrentService.Decrypt",
    }
    signed = sign(headers, b"{}", credentials, "eu-central-1")
    assert signed["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261128/eu-central-1/kms/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="
    )


def test_credentials_come_from_the_environment_first() -> None:
    found = find_credentials(
        {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "AWS_SESSION_TOKEN": "C"}
    )
    assert (found.key_id, found.secret, found.token) == ("A", "B", "C")
    assert "B" not in repr(found)
    with pytest.raises(UsageError, match="found neither"):
        find_credentials({}, metadata="127.0.0.1:1")
