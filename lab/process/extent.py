"""How large a data set is, before it is fetched: what checks and estimates ask."""

from typing import NamedTuple

from lab import choices
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
        training, test = source.count(**settings) or (None, None)
    except BadInput:  # the stage that fetches them says so
        training = test = None
    return Extent(training, test, settings["image_size"])
