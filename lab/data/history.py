"""What the cycles of a run measured, handed on from cycle to cycle.

The history after n cycles is a JSON list of their n results, in the order of the cycles. A cycle reads the history
before it and writes the one after it, so that the last one holds the whole run, whatever else lies in the folder.
"""

import json
from pathlib import Path

from lab.data.files import write_json
from lab.errors import BadInput

FOLDER = Path("metrics/history")


def path_of(cycles: int) -> Path:
    """The file after so many cycles."""
    return FOLDER / f"{cycles}.json"


def write(results: list[dict], cycles: int) -> None:
    """Write the history after so many cycles, of which ``results`` holds one each."""
    write_json(path_of(cycles), results)


def read(cycles: int) -> list[dict]:
    """The results of so many cycles.

    Raises:
        BadInput: the file is no list of as many results.
    """
    path = path_of(cycles)
    try:
        results = json.loads(path.read_text())
        numbers = [result["cycle"] for result in results]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path}: no history of {cycles} cycles ({error}); `dvc repro` computes it again") from error
    if numbers != list(range(cycles)):
        raise BadInput(f"{path}: holds the cycles {numbers}, and should hold {list(range(cycles))}")
    return results
