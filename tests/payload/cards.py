"""The model card that the payload's tests share."""

from enclave_payload.card import Label, ModelCard

CARD = ModelCard(
    model_id="test-lesion",
    sha256="0a" * 32,
    width=8,
    height=4,
    mean=127.5,
    std=127.5,
    labels=(Label(code="bcc", name="Basal cell carcinoma"), Label(code="nv", name="Melanocytic nevi")),
    notice="No diagnosis.",
)
