"""What importing the builder does to the process that imports it."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_builder_leaves_the_standard_library_whole() -> None:
    """The warm-up hides modules that the image lacks; the builder needs them itself."""
    code = "import enclavectl.image.build, enclavectl.image.warmup, ssl, bz2, lzma, _hashlib"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
