"""Train the network of a cycle once more, the same bits on the same machine, and keep it as a file."""

from pathlib import Path

from lab.host import Host
from lab.training import of_cycle, weights


def main(host: Host, number: str) -> None:
    """number: of the cycle, from 0.

    Raises:
        BadInput, Diverged, Interrupted: as the cycle itself.
    """
    settings = of_cycle.load_settings()
    fitted = of_cycle.fit(host, settings, int(number))
    path = Path(f"data/networks/{number}.safetensors")
    weights.write(path, fitted.model, cycle=int(number), labels=len(fitted.pool), seed=settings.seed)
    print(f"{path}: the network of cycle {number}, trained on {len(fitted.pool):,} labels")
