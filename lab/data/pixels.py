"""From which size on images are handled as those of ImageNet are."""

SMALL = 64  # pixels of a side, and up to here as those of CIFAR-10
# What is kept beyond what a network sees, for crops: 256 pixels for 224.
MARGIN = 256 / 224


def stored(image_size: int) -> int:
    """Pixels of a side that images are prepared with, for networks that see ``image_size``."""
    return image_size if image_size <= SMALL else round(MARGIN * image_size)
