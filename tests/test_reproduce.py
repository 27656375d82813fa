"""The same commit and params give the same results, bit for bit: two clones with a cache each, compared by hash."""

import pytest

from tests.conftest import Clone, cycles

SETTINGS = {"protocol": "demo", "protocols.demo.width": 4, "protocols.demo.training.epochs": 2, "optim": "adamw"}


def test_two_clones_with_caches_of_their_own_agree(tmp_path_factory: pytest.TempPathFactory) -> None:
    hashes = []
    for name in ("one", "other"):
        clone = Clone(tmp_path_factory.mktemp(name))
        options = [word for key, value in SETTINGS.items() for word in ("-S", f"{key}={value}")]
        log = clone("dvc", "exp", "run", *options, "-S", cycles(2))
        assert log.count("Running stage") == 7, "nothing comes from a cache"
        hashes.append(clone.output_hashes())
    # Seconds, memory and host are measured, and differ.
    one, other = ({path: md5 for path, md5 in found.items() if "costs" not in path} for found in hashes)
    assert one == other
    assert set(one) == {
        "data/raw",
        "data/prepared",
        *(f"data/labelled/{number}.csv" for number in range(3)),
        *(f"metrics/cycles/{number}.json" for number in range(2)),
        "metrics/summary.json",
        "plots/curve.csv",
        "plots/accuracy_vs_budget.png",
        "plots/label_efficiency.png",
    }
