"""The same commit and params give the same results, bit for bit: two clones with a cache each, compared by hash."""

import pytest

from lab.cycles import setting
from tests.conftest import RESULTS_OF_TWO_CYCLES, Clone

pytestmark = pytest.mark.pipeline
SETTINGS = {
    "protocol": "demo",
    "dataset": "digits",
    "protocols.demo.width": 4,
    "protocols.demo.training.epochs": 5,
    "optim": "adamw",
    # so that weights are among the results
    "initialisation": "continue",
    "initialisations.continue.epochs": 5,
}


def test_two_clones_with_caches_of_their_own_agree(tmp_path_factory: pytest.TempPathFactory) -> None:
    results = []
    for name in ("one", "other"):
        clone = Clone(tmp_path_factory.mktemp(name))
        options = [word for key, value in SETTINGS.items() for word in ("-S", f"{key}={value}")]
        log = clone("dvc", "exp", "run", *options, "-S", setting(2))
        assert log.count("Running stage") == 10, "nothing comes from a cache"
        results.append(clone.results())
    one, other = results
    assert one == other
    assert set(one) == RESULTS_OF_TWO_CYCLES
