"""How large a data set is, before it is fetched: what checks and estimates ask."""

from typing import NamedTuple

from lab import choices
from lab.data.images.lines import lines_of
from lab.data.location import located
from lab.errors import BadInput

SOURCES = "data/sets"


class Extent(NamedTuple):
    """training, test: images; None where that is not known here. pixels: of a side, as the network sees them."""

    training: int | None
    test: int | None
    pixels: int


def of(block: dict) -> Extent:
    """The extent of a block of ``datasets``; of images of the user's own as far as they are listed, usable or not."""
    settings = dict(block)
    source = choices.load(SOURCES, settings.pop("source"))
    if not hasattr(source, "count"):
        return Extent(source.TRAINING_IMAGES, source.TEST_IMAGES, source.PIXELS)
    try:
        count = source.count(**settings)
        test = _tested(settings, count) if count is not None else None
    except BadInput:  # the stage that fetches them says so
        count = test = None
    return Extent(None if count is None or test is None else count - test, test, settings["image_size"])


def _tested(settings: dict, count: int) -> int:
    test, path = settings["test"], located(settings["path"])
    if "share" in test:
        return round(test["share"] * count)
    root = path if path.is_dir() else path.parent
    return sum(bool(line.strip()) for line in lines_of(root / test["file"]))
