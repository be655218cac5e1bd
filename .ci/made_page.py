"""Pages of docs that are made: --write writes one; without it, a page that is not what it should be is an error."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def hold(path: str, wanted: str) -> int:
    """Writes the page, or holds it against what it should be; returns the exit status. path: from the root."""
    page = ROOT / path
    if "--write" in sys.argv:
        page.write_text(wanted)
    fits = page.exists() and page.read_text() == wanted
    print(f"{path}: ok" if fits else f"{path} is not what it should be; run {sys.argv[0]} --write")
    return 0 if fits else 1
