"""A contact sheet: images with a caption each, in rows under headings."""

from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from lab.data.files import replaced
from lab.report.curve import set_theme

COLUMNS = 8
HEADING, ROW = 0.3, 1.55  # inches


class Part(NamedTuple):
    """heading: above the images. images: uint8 (n, height, width, 3). captions: n, below one each."""

    heading: str
    images: NDArray[np.uint8]
    captions: list[str]


def draw_sheet(parts: list[Part], title: str, path: Path) -> None:
    """Write a PNG of the parts, one below the other; those without images are left out."""
    figure = sheet(parts, title)
    with replaced(path) as file:
        figure.savefig(file, dpi=150, format="png")
    plt.close(figure)


def sheet(parts: list[Part], title: str) -> plt.Figure:
    """The figure of ``draw_sheet``."""
    parts = [part for part in parts if len(part.images)]
    rows = [-(-len(part.images) // COLUMNS) for part in parts]
    heights = [HEADING + ROW * count for count in rows]
    set_theme(font_scale=0.8)
    figure = plt.figure(figsize=(9, 2 * HEADING + sum(heights)), layout="constrained")
    figure.suptitle(title)
    if not parts:
        figure.text(0.5, 0.3, "no images", ha="center")
        return figure
    blocks = np.ravel(figure.subfigures(len(parts), height_ratios=heights))
    for block, part, count in zip(blocks, parts, rows, strict=True):
        block.suptitle(part.heading, fontsize="medium", x=0.01, ha="left")
        tiles = np.ravel(block.subplots(count, COLUMNS, squeeze=False))
        for tile in tiles:
            tile.set(xticks=[], yticks=[], frame_on=False)
        for tile, image, caption in zip(tiles, part.images, part.captions, strict=False):
            tile.imshow(image)
            tile.set_xlabel(caption, fontsize="small")
    return figure
