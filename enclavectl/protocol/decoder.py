"""The enclave's own decoder of pictures, for previews that show what the enclave sees.

It is a module of its own because it loads Pillow, which takes longer than most commands.
"""

from enclave_payload.fitting import Placement
from enclave_payload.picture import PictureError, decode_upright

__all__ = ["PictureError", "Placement", "decode_upright"]
