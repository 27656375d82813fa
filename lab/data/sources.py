"""The data sets by name, each a module with two functions.

``fetch(raw)`` fills a raw folder with verified files; ``read(raw)`` turns that folder into a ``Dataset``.
"""

from pathlib import Path

from lab.data.sets import cifar10, digits

RAW = Path("data/raw")
DATASETS = {"cifar10": cifar10, "digits": digits}
