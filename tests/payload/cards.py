"""The model card that the payload's tests share, and the parts of others."""

from enclave_payload.card import Filter, Fit, Label, ModelCard, ModelInput, ModelOutput, Scores

SOFTMAX = ModelOutput(scores=Scores.SOFTMAX)


def stretched(width: int, height: int, mean: str = "127.5", std: str = "127.5") -> ModelInput:
    """The whole picture, bilinear, with one mean and std for all channels."""
    return ModelInput(
        width=width,
        height=height,
        fit=Fit.STRETCH,
        filter=Filter.BILINEAR,
        mean=(mean, mean, mean),
        std=(std, std, std),
    )


CARD = ModelCard(
    model_id="test-lesion",
    sha256="0a" * 32,
    input=stretched(8, 4),
    output=SOFTMAX,
    labels=(Label(code="bcc", name="Basal cell carcinoma"), Label(code="nv", name="Melanocytic nevi")),
    notice="No diagnosis.",
)
