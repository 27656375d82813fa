"""Text files that people write: lists of images, and tables of labels."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from lab.errors import BadInput, reason


def lines_of(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, with or without a byte order mark, whichever way its lines end.

    Raises:
        BadInput: it cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read, {reason(error)}") from error
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        encoding = "utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "latin1"
        raise BadInput(
            f"{path}, line {number}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8, "
            f"as with iconv -f {encoding} -t utf-8"
        ) from error
