"""When something happens in training, given as a share of it."""


def epoch_of(share: float, epochs: int) -> int:
    """The epoch, from 0, from which on it holds: ``epochs`` means never. share: 0 … 1."""
    return round(share * epochs)
