"""Pages in a browser without a network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageColor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or os.getuid() != 0, reason="needs Chromium, and root to cut off the network"
)


def browse(page: Path, folder: Path, *options: str) -> str:
    """Open a page and return what Chromium prints. folder: for its profile."""
    # a network namespace of its own, with no interface in it
    command = ["unshare", "--net", CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run([*command, profile, *options, f"file://{page}"], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pixels_of(picture: Path, colour: str) -> int:
    """How many pixels of a picture have a colour, given as #rrggbb."""
    with Image.open(picture) as drawn:
        counts = {colour: count for count, colour in drawn.convert("RGB").getcolors(maxcolors=2**24)}
    return counts.get(ImageColor.getrgb(colour), 0)
