"""What is random in a cycle: drawn anew for each seed and cycle, and from nothing else."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.data import history, labelled
from lab.host import Host
from lab.seeds import Stream, generator_of, seed_of
from lab.training import learner, of_cycle
from lab.training.batches import TrainingBatches
from lab.training.learner import Learner
from stages import cold_start, cycle
from tests.conftest import POOL_SIZE, make_laboratory, read_params, write_params
from tests.test_cycle import run

DRAWS = ["weights", "module weights", "first epoch", "second epoch", "pool subset", "random scores"]


def change(values: dict, **settings: object) -> None:
    values["protocols"]["demo"]["training"] |= {"epochs": 2}
    values["protocols"]["demo"] |= {"cold_start": settings.pop("cold_start")}
    values["protocols"]["demo"]["query"] |= {"pool_subset": settings.pop("pool_subset")}
    write_params(values | settings)


def draws(number: int, seed: int, patch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """All that is drawn in a cycle that trains on images 0 to 10, whichever cycle it is."""
    drawn, build, epoch, predict = {}, learner.build, TrainingBatches.epoch, Learner.predict

    def built(*given: object, **named: object) -> Learner:
        model = build(*given, **named)
        drawn["weights"], drawn["module weights"] = (
            torch.cat([weight.detach().flatten() for weight in part.parameters()]).numpy().tobytes()
            for part in (model.network, model.module)
        )
        return model

    def batches(self: TrainingBatches, seed: int) -> Iterator:
        found = list(epoch(self, seed))
        name = "second epoch" if "first epoch" in drawn else "first epoch"
        drawn[name] = torch.cat([images for images, _ in found]).numpy().tobytes()
        return iter(found)

    def predicted(self: Learner, images: np.ndarray, indices: np.ndarray, *others: object):
        drawn["pool subset"] = indices.tobytes()  # after the test images
        return predict(self, images, indices, *others)

    pool = labelled.cold_start(np.arange(6 if number else 11))
    if number:
        pool = labelled.extend(pool, np.arange(6, 11), np.zeros(5))
        history.write([{"cycle": 0}], 1)
    labelled.write(pool, labelled.path_of(number))
    with patch.context() as inner:
        inner.setattr(learner, "build", built)
        inner.setattr(TrainingBatches, "epoch", batches)
        inner.setattr(Learner, "predict", predicted)
        for strategy, subset in (("random", None), ("loss_prediction", 8)):
            drawn.pop("first epoch", None)
            change(read_params(), seed=seed, strategy=strategy, pool_subset=subset, cold_start=6 if number else 11)
            run(number)
            if strategy == "random":
                drawn["random scores"] = labelled.read(labelled.path_of(number + 1))["score"].to_numpy()[11:].tobytes()
    return drawn


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("laboratory"))
        patch.setenv("AL_LAB_DEVICE", "cpu")
        make_laboratory()
        return {
            "start": draws(number=0, seed=0, patch=patch),
            "again": draws(number=0, seed=0, patch=patch),
            "cycle": draws(number=1, seed=0, patch=patch),
            "seed": draws(number=0, seed=1, patch=patch),
        }


@pytest.mark.parametrize("draw", DRAWS)
def test_the_same_cycle_and_seed_draw_the_same(drawn: dict, draw: str) -> None:
    assert drawn["again"][draw] == drawn["start"][draw]


@pytest.mark.parametrize("draw", DRAWS)
def test_each_cycle_draws_anew(drawn: dict, draw: str) -> None:
    assert drawn["cycle"][draw] != drawn["start"][draw]


@pytest.mark.parametrize("draw", DRAWS)
def test_each_seed_draws_anew(drawn: dict, draw: str) -> None:
    assert drawn["seed"][draw] != drawn["start"][draw]


def test_each_epoch_draws_anew(drawn: dict) -> None:
    assert drawn["start"]["first epoch"] != drawn["start"]["second epoch"]


def test_each_draw_has_a_stream_of_its_own(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(of_cycle, "seed_of", lambda *given: asked.append(given) or seed_of(*given))
    monkeypatch.setattr(cycle, "generator_of", lambda *given: asked.append(given) or generator_of(*given))
    change(read_params(), seed=7, strategy="random", pool_subset=8, cold_start=6)
    run(0)
    assert sorted(asked) == [
        (Stream.WEIGHTS, 7, 0),
        (Stream.BATCHES, 7, 0, 0),
        (Stream.BATCHES, 7, 0, 1),
        (Stream.POOL_SUBSET, 7, 0),
        (Stream.RANDOM_SCORES, 7, 0),
        (Stream.MODULE_WEIGHTS, 7, 0),
    ]


def test_seeds_are_what_they_were() -> None:
    # Part of every result; from np.random.SeedSequence([stream, seed, cycle, epoch]), shifted to 63 bits.
    assert [stream.value for stream in Stream] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert seed_of(Stream.COLD_START, 0) == 7896617691693857887
    assert seed_of(Stream.BATCHES, 1, 2, 3) == 151617695247712580


def test_every_argument_of_a_seed_counts() -> None:
    seeds = [seed_of(stream, seed, one, epoch) for stream in Stream for seed, one, epoch in np.ndindex(3, 3, 3)]
    assert len(set(seeds)) == len(seeds) == 9 * 27
    first = [generator_of(stream, seed, one).random() for stream in Stream for seed, one in np.ndindex(3, 3)]
    assert len(set(first)) == len(first)


def test_the_cold_start_is_a_random_set_of_its_own_seed(laboratory: Path) -> None:
    def started(**settings: object) -> list[int]:
        write_params(read_params() | settings)
        cold_start.main(Host())
        pool, path = labelled.read(labelled.path_of(0)), labelled.path_of(0)
        labelled.check(pool, path, POOL_SIZE, [6])
        assert history.read(0) == []
        return pool["index"].tolist()

    first = started(cold_start_seed=0, seed=0)
    assert started(seed=1) == first
    sets = [started(cold_start_seed=seed) for seed in range(1, 12)]
    assert first not in sets
    # 72 draws among 40 images leave out six or seven of them.
    assert len({*first}.union(*sets)) > 30
