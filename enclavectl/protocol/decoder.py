"""The enclave's own decoder of pictures, for those who show a picture as the enclave sees it.

A module of its own: it loads Pillow, which takes longer than most commands.
"""

from enclave_payload.picture import PictureError, decode_upright

__all__ = ["PictureError", "decode_upright"]
