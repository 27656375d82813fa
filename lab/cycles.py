"""Print the option that runs so many cycles: dvc exp run -S "$(python -m lab.cycles 3)" """

import json
from argparse import ArgumentParser
from pathlib import Path

CYCLES_FILE = Path("cycles.yaml")


def listed(count: int) -> list[dict[str, int]]:
    """The entries of cycles.yaml: each names the labelled set that it reads and the one that it writes."""
    return [{"this": number, "next": number + 1} for number in range(count)]


def option(count: int) -> str:
    """What stands after ``-S`` for so many cycles."""
    return f"{CYCLES_FILE}:cycles={json.dumps(listed(count)).replace(chr(34), '')}"


def main() -> None:
    parser = ArgumentParser(description="Print the option of `dvc exp run -S` that runs so many cycles.")
    parser.add_argument("cycles", type=int)
    count = parser.parse_args().cycles
    if count < 1:
        parser.error(f"cycles {count}: must be 1 or more")
    print(option(count))


if __name__ == "__main__":
    main()
