"""The same commit and params give the same results, bit for bit: two clones with a cache each, compared by hash."""

import pytest

from tests.conftest import RESULTS_OF_TWO_CYCLES, Clone, cycles

SETTINGS = {"protocol": "demo", "protocols.demo.width": 4, "protocols.demo.training.epochs": 2, "optim": "adamw"}


def test_two_clones_with_caches_of_their_own_agree(tmp_path_factory: pytest.TempPathFactory) -> None:
    results = []
    for name in ("one", "other"):
        clone = Clone(tmp_path_factory.mktemp(name))
        options = [word for key, value in SETTINGS.items() for word in ("-S", f"{key}={value}")]
        log = clone("dvc", "exp", "run", *options, "-S", cycles(2))
        assert log.count("Running stage") == 7, "nothing comes from a cache"
        results.append(clone.results())
    one, other = results
    assert one == other
    assert set(one) == RESULTS_OF_TWO_CYCLES
