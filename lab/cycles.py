"""Print the setting for a number of cycles: dvc exp run -S "$(python -m lab.cycles 3)" """

import json
from argparse import ArgumentParser


def pairs(count: int) -> list[list[int]]:
    """The param ``cycles``: of each cycle the labelled set that it reads, and the one that it writes."""
    return [[number, number + 1] for number in range(count)]


def setting(count: int) -> str:
    """What stands after ``-S`` for so many cycles."""
    return f"cycles={json.dumps(pairs(count), separators=(',', ':'))}"


def main() -> None:
    parser = ArgumentParser(description="Print the setting of `dvc exp run -S` for a number of cycles.")
    parser.add_argument("cycles", type=int)
    count = parser.parse_args().cycles
    if count < 1:
        parser.error(f"cycles = {count}: must be 1 or more")
    print(setting(count))


if __name__ == "__main__":
    main()
