"""How the learning rate goes through a training, as a block of ``schedules`` in params.yaml.

Whatever happens in training is given as a share of the updates of a cycle, so that a shorter training keeps its
schedule. An update counts by its middle: of four, the last two come after a share of 0.5.
"""

from math import ceil, cos, pi


def epochs_of(epochs: int, min_updates: int, labels: int, batch_size: int) -> int:
    """The epochs of a cycle: as many as are asked for, or as ``min_updates`` take on so few labels."""
    return max(epochs, ceil(min_updates / ceil(labels / batch_size)))


def factor_at(schedule: dict, done: float) -> float:
    """What the learning rate of the optimizer's block is multiplied by.

    Args:
        schedule: ``shape`` steps (the paper's, section 4.5): multiplied by ``factor`` from the share ``drop_at`` on.
            ``shape`` cosine (Loshchilov and Hutter, 2017, equation 5, without restarts): from 1 to 0, after it rose
            linearly over the share ``warm_up``. ``shape`` constant: 1.
        done: the share of the updates that are done, 0 … 1.
    """
    match schedule["shape"]:
        case "steps":
            return schedule["factor"] if done >= schedule["drop_at"] else 1.0
        case "cosine":
            warm_up = schedule["warm_up"]
            if done < warm_up:
                return done / warm_up
            return (1 + cos(pi * (done - warm_up) / (1 - warm_up))) / 2
        case "constant":
            return 1.0
        case shape:
            raise ValueError(f"shape = {shape!r}: no schedule")
