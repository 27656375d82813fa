"""Campaigns: what several people say, what is taken in and refused, and cycles that know no other labels."""

import csv
import json
import os
import sys
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.campaign import __main__, batches, folder
from lab.data import answered, answers, details, history, labelled, prepared
from lab.data.answered import AUDIT
from lab.data.answers import NO_CLASS, SKIP, Answer
from lab.data.dataset import UNFIT, UNKNOWN, Dataset, Split
from lab.data.files import write_text
from lab.errors import BadInput
from lab.process import check
from lab.training.learner import Learner
from stages import answers as stage
from stages import cycle, plot, summarise
from tests.conftest import FIRST_LABELLED, POOL_SIZE, TEST_SIZE, RecordingHost, read_params, write_params

NOON = "2026-11-29T12:00:00+00:00"
TABLE = Path("data/batches/0/labels.csv")


def answer(label: str, by: str = "anna", minute: int = 0, image: str = "a.png") -> Answer:
    return Answer(image, "0" * 32, label, by, f"2026-11-29T12:{minute:02}:00+00:00", "table")


@pytest.mark.parametrize(
    ("said", "decided"),
    [
        ([answer("oak")], "oak"),
        ([answer("oak"), answer("ash", "ben"), answer("oak", "carl")], "oak"),
        ([answer("oak"), answer("ash", "ben")], None),
        ([answer("oak"), answer("ash", "ben"), answer(SKIP, "carl")], None),
        ([answer("oak"), answer(SKIP, "ben"), answer(SKIP, "carl")], "oak"),
        ([answer(SKIP)], None),
        ([answer(NO_CLASS), answer(NO_CLASS, "ben"), answer("oak", "carl")], NO_CLASS),
        # Of one person the last answer counts, whichever comes first in the file.
        ([answer("ash", minute=5), answer("oak", minute=1)], "ash"),
        ([answer("oak", minute=1), answer(SKIP, minute=5)], None),
        ([], None),
    ],
)
def test_what_several_answers_decide(said: list[Answer], decided: str | None) -> None:
    assert answers.decide(said).get("a.png") == decided


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8)


@given(st.lists(st.builds(Answer, WORDS, WORDS, WORDS, WORDS, WORDS, WORDS), max_size=5))
def test_answers_come_back_whatever_their_order(laboratory: Path, given: list[Answer]) -> None:
    path = answers.path_of("0")
    answers.write(given, path)
    before = path.read_bytes()
    assert set(answers.read(path)) == set(given)
    answers.write([*reversed(given), *given], path)
    assert path.read_bytes() == before


@pytest.fixture
def campaign(laboratory: Path) -> Path:
    """The small laboratory, whose people are asked; its hidden labels are all of one class, and wrong."""
    images, test = prepared.read_split("train").images, prepared.read_split("test").images
    wrong = [Split(np.array(part), np.full(len(part), 9)) for part in (images, test)]
    prepared.write(Dataset(*wrong, prepared.read_statistics().classes))
    write_params({**read_params(), "oracle": "people", "strategy": "loss_prediction", "cycles": [[0, 1]]})
    answers.FOLDER.mkdir()
    return laboratory


def command(*words: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["campaign", *map(str, words)])
        __main__.main()


def label_of(image: str) -> str:
    """What people say of an image: its index, as a class."""
    return str(int(image[-9:-4]) % 10)


def fill_in(batch: str, say: Callable[[str], str] = label_of) -> Path:
    """Fill in the table of a batch."""
    path = batches.FOLDER / batch / folder.TABLE
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": say(row["image"])} for row in rows)
    return path


def at(path: Path, minute: int) -> Path:
    """The file, as if written then."""
    os.utime(path, (minute * 60, minute * 60))
    return path


def label_all(*names: str) -> None:
    command("ask")
    for name in names:
        command("take", fill_in(name))


def run(number: int) -> RecordingHost:
    """A cycle, and the entry in dvc.lock that DVC writes."""
    stage.main(RecordingHost())
    host = RecordingHost()
    cycle.main(host, str(number))
    used = [answered.path_of(AUDIT), answered.path_of(str(number)), labelled.path_of(number)]
    made = [labelled.path_of(number + 1), details.path_of(number)]
    held = {
        key: [{"path": str(path), "md5": md5(path.read_bytes()).hexdigest()} for path in paths]
        for key, paths in (("deps", used), ("outs", made))
    }
    lock = json.loads(batches.LOCK.read_text()) if batches.LOCK.exists() else {"stages": {}}
    lock["stages"][f"cycle@{number}"] = held
    write_text(batches.LOCK, json.dumps(lock))
    return host


def test_a_campaign_of_two_batches(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    command()
    assert f"the audit set waits for {TEST_SIZE} labels, 0 given\nbatch 0 waits for 6 labels" in capsys.readouterr().out
    label_all(AUDIT, "0")
    assert "next: git add data/answers" in capsys.readouterr().out
    assert read_params()["cycles"] == [[0, 1]], "it is not done yet"
    run(0)
    command("ask")
    assert "data/batches/1: 5 images to label" in capsys.readouterr().out
    command("take", fill_in("1"))
    assert "cycle 1 is listed in params.yaml" in capsys.readouterr().out
    assert read_params()["cycles"] == [[0, 1], [1, 2]]
    run(1)
    assert [result["labels"] for result in history.read(2)] == [6, 11]
    command()
    printed = capsys.readouterr().out
    assert "batch 2 waits for 5 labels, 0 given\n2 of 2 cycles are done" in printed
    accuracy = history.read(2)[1]["accuracy"]
    assert f"\n11 labels, {accuracy:.1%} [" in printed


def test_a_cycle_trains_and_tests_on_what_people_said(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label_all(AUDIT, "0")
    trained, fit = [], Learner.fit

    def watched(self: Learner, batches, *given, **named):
        trained.append(batches.labels.tolist())
        return fit(self, batches, *given, **named)

    monkeypatch.setattr(Learner, "fit", watched)
    run(0)
    assert trained == [[index % 10 for index in FIRST_LABELLED]]
    rows = np.sum(details.read(0)["confusion"], axis=1)
    assert rows.tolist() == np.bincount(np.arange(TEST_SIZE) % 10, minlength=10).tolist()


def test_images_that_no_class_fits_are_neither_trained_nor_tested_on(campaign: Path) -> None:
    command("ask")
    unfit = f"train/{FIRST_LABELLED[0]:05d}.bmp"
    command("take", fill_in("0", lambda image: NO_CLASS if image == unfit else label_of(image)))
    command("take", fill_in(AUDIT, lambda image: NO_CLASS if image == "test/00003.bmp" else label_of(image)))
    run(0)
    (result,) = history.read(1)
    assert (result["labels"], result["training_images"], result["judged_images"]) == (6, 5, TEST_SIZE - 1)
    assert not set(labelled.read(labelled.path_of(1))["index"][6:]) & {FIRST_LABELLED[0]}, "it is not asked about again"


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (AUDIT, f"the audit set waits for 1 of {TEST_SIZE} labels"),
        ("0", "the labelled set of cycle 0 waits for 1 of 6 l"),
    ],
)
def test_a_cycle_whose_labels_are_missing_does_not_begin(campaign: Path, missing: str, why: str) -> None:
    label_all(AUDIT, "0")
    path = answers.path_of(missing)
    answers.write(answers.read(path)[1:], path)
    host = RecordingHost()
    stage.main(host)
    with pytest.raises(BadInput, match=why):
        cycle.main(host, "0")
    assert host.bars == []


def test_a_batch_shows_what_the_network_takes_its_images_for(campaign: Path) -> None:
    label_all(AUDIT, "0")
    run(0)
    command("ask")
    with open(batches.FOLDER / "1" / folder.TABLE, newline="") as file:
        rows = list(csv.DictReader(file))
    new = labelled.read(labelled.path_of(1)).tail(5)
    assert [row["image"] for row in rows] == [f"train/{index:05d}.bmp" for index in new["index"]]
    assert [float(row["score"]) for row in rows] == new["score"].tolist()
    assert all(row["predicted"] in "0123456789" and 0.1 <= float(row["confidence"]) <= 1 for row in rows)
    for row in rows:
        content = (batches.FOLDER / "1" / row["picture"]).read_bytes()
        assert md5(content).hexdigest() == row["md5"]
        assert content == prepared.drawn(prepared.read_split("train").images[int(row["image"][6:11])])
    tasks = json.loads((batches.FOLDER / "1/tasks.json").read_text())
    assert [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks] == [
        [r["predicted"]] for r in rows
    ]


def test_later_answers_change_no_earlier_cycle(campaign: Path) -> None:
    label_all(AUDIT, "0")
    run(0)
    label_all("1")
    before = answered.path_of("0").read_bytes()
    stage.main(RecordingHost())
    assert answered.path_of("0").read_bytes() == before
    found = answered.labels("1", POOL_SIZE)
    known = labelled.read(labelled.path_of(1))["index"].to_numpy()
    assert found[known].tolist() == (known % 10).tolist()
    assert (np.delete(found, known) == UNKNOWN).all()


def test_nobody_is_asked_by_default(laboratory: Path) -> None:
    stage.main(RecordingHost())
    assert answered.path_of("0").read_text() == answered.path_of(AUDIT).read_text() == "index,label\n"
    with pytest.raises(BadInput, match="oracle = 'hidden': nobody is asked; set oracle: people"):
        command()


def test_ties_go_back_into_the_queue(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    command("ask")
    path = at(fill_in("0"), 1)
    command("take", path, "--by", "anna")
    tied = f"train/{FIRST_LABELLED[2]:05d}.bmp"
    path = at(path, 2)
    write_text(path, f"image,label,by\n{tied},no class fits,ben\n")
    command("take", path)
    capsys.readouterr()
    command()
    assert "batch 0 waits for 6 labels, 5 given (1 tied)" in capsys.readouterr().out
    command("ask")
    assert [row.split(",")[1] for row in TABLE.read_text().splitlines()[1:]] == [tied]
    write_text(TABLE, f"image,label,by\n{tied},no class fits,carl\n")
    command("take", TABLE)
    assert dict(stage.decided("0", "train"))[FIRST_LABELLED[2]] == UNFIT
    assert "batch 0: all 6 images are labelled, people disagreed about 1" in capsys.readouterr().out


def test_labels_that_were_not_taken_are_not_written_over(campaign: Path) -> None:
    command("ask")
    before = fill_in("0").read_bytes()
    with pytest.raises(BadInput, match=r"labels\.csv: 6 labels in it were not taken yet, as that of train/.*take them"):
        command("ask")
    assert TABLE.read_bytes() == before
    command("take", TABLE)
    command("ask")


IMAGE = f"train/{FIRST_LABELLED[0]:05d}.bmp"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            f"{IMAGE},,11",
            r"labels\.csv, line 2: '11' is no class; choose from 0, .*, skip, no class fits \(did you mean 1\?\)",
        ),
        ("train/00030.bmp,,1", r"line 2: 'train/00030\.bmp' was not asked about \(did you mean train/\d"),
        (f"{IMAGE},{'0' * 32},1", f"line 2: {IMAGE} has changed since it was asked about; ask about it again"),
        (f"{IMAGE},1", "line 2: 2 values, and the first line has 3; is the file whole"),
    ],
)
def test_bad_answers_are_refused_as_a_whole(campaign: Path, row: str, why: str) -> None:
    command("ask")
    other = f"train/{FIRST_LABELLED[1]:05d}.bmp"
    write_text(TABLE, f"image,md5,label\n{row}\n{other},,3\n")
    with pytest.raises(BadInput, match=why):
        command("take", TABLE)
    assert not answers.path_of("0").exists()


def test_a_table_without_its_columns_is_refused(campaign: Path) -> None:
    write_text(Path("x.csv"), "name,label\na,1\n")
    with pytest.raises(BadInput, match=r"x\.csv, line 1: no column 'image'; it must have image and label"):
        command("take", "x.csv")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{image},{md5},11,anna,t,table", "line 2: '11' is no class"),
        ("train/1.bmp,{md5},1,anna,t,table", r"line 2: 'train/1\.bmp' is no image of the train set \(did you mean"),
        ("{image},0,1,anna,t,table", "line 2: train/.* has changed since it was asked about; bring the image back"),
        ("{image},{md5},1,anna", "line 2: must have 6 values; mend or remove the line"),
    ],
)
def test_a_file_of_answers_that_was_edited_is_checked(campaign: Path, line: str, why: str) -> None:
    source = prepared.read_sources("train")[3]
    header = ",".join(Answer._fields)
    write_text(answers.path_of("0"), f"{header}\n{line.format(image=source.name, md5=source.md5)}\n")
    with pytest.raises(BadInput, match=why):
        stage.main(RecordingHost())


def test_taking_a_file_again_or_after_a_kill_gives_the_same(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("ask")
    both = Path("both.csv")
    rows = [row for name in ("0", AUDIT) for row in fill_in(name).read_text().splitlines()[1:]]
    write_text(both, "\n".join([",".join(folder.COLUMNS), *rows]) + "\n")
    at(both, 7)

    def killed(kept: object, path: Path) -> None:
        if path == answers.path_of("0"):
            raise KeyboardInterrupt
        write(kept, path)

    write = answers.write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(answers, "write", killed)
        command("take", both)
    assert answers.path_of(AUDIT).exists()
    command("take", both)
    found = [answers.path_of(name).read_bytes() for name in (AUDIT, "0")]
    command("take", at(both, 9))
    assert [answers.path_of(name).read_bytes() for name in (AUDIT, "0")] == found, "they say nothing new"
    for name in (AUDIT, "0"):
        answers.path_of(name).unlink()
    command("take", at(both, 7))
    assert [answers.path_of(name).read_bytes() for name in (AUDIT, "0")] == found


def test_a_label_that_changes_says_which_cycles_are_stale(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    label_all(AUDIT, "0")
    run(0)
    label_all("1")
    run(1)
    image = batches.read().batches[2].asked[0].image
    write_text(Path("x.csv"), f"image,label\n{image},{(int(label_of(image)) + 1) % 10}\n")
    kept = answers.read(answers.path_of("1"))
    capsys.readouterr()
    command("take", "x.csv")
    printed = capsys.readouterr().out
    assert f"batch 1, {image}: was {label_of(image)}, is {(int(label_of(image)) + 1) % 10} now" in printed
    assert "cycle 1 used other labels: the next dvc repro runs it again" in printed
    assert "1 of 2 cycles are done with these labels\n" in printed
    assert "\nnext: git add data/answers" in printed
    assert set(kept) < set(answers.read(answers.path_of("1"))), "what was said before stays"
    write_text(Path("y.csv"), "image,label\ntest/00000.bmp,5\n")
    command("take", "y.csv")
    assert "cycles 0 to 1" not in capsys.readouterr().out, "cycle 1 was stale already"


def test_labels_of_images_that_are_asked_about_again_in_another_batch_are_kept(campaign: Path) -> None:
    label_all(AUDIT, "0")
    run(0)
    label_all("1")
    moved = batches.read().batches[2].asked[0]
    given = answers.read(answers.path_of("1"))
    # As if other labels had made cycle 0 ask about other images: this one is among them, known from batch 7.
    answers.write(given, answers.path_of("7"))
    answers.path_of("1").unlink()
    command("ask")
    assert moved.image in answers.decide(answers.read(answers.path_of("1")))


def test_the_way_of_a_label_is_shown(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    label_all(AUDIT, "0")
    run(0)
    command("ask")
    command("take", at(fill_in("1"), 3), "--by", "anna")
    run(1)
    image = batches.read().batches[2].asked[0].image
    capsys.readouterr()
    command("trace", image)
    printed = capsys.readouterr().out
    assert printed.startswith("asked about in batch 1, predicted ")
    assert f"1970-01-01T00:03:00+00:00: anna said {label_of(image)} (table)\n" in printed
    assert printed.endswith(f"decided: {label_of(image)}; cycles from 1 on train on it\n")
    with pytest.raises(BadInput, match=r"'train/99999\.bmp' was not asked about"):
        command("trace", "train/99999.bmp")


def test_pictures_show_no_label_that_nobody_gave(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    label_all(AUDIT, "0")
    run(0)
    summarise.main(RecordingHost(), "1")
    parts = plot.last_query(0)
    assert [caption for part in parts for caption in part.captions if "\n" in caption] == []
    plot.main(RecordingHost(), "0")
    assert "batch 1 waits for 5 labels: `python -m lab.campaign` says what comes next" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"oracle": "peple"}, r"oracle = 'peple': choose from hidden, people \(did you mean people\?\)"),
        ({"oracle": "people", "validation": 5}, "validation = 5: with oracle = 'people' nobody labels held-out images"),
        (
            {"oracle": "people", "strategy": "cheating_true_loss", "allow_oracle": True},
            "strategy = 'cheating_true_loss': looks at hidden labels, and with oracle = 'people' there are none",
        ),
    ],
)
def test_params_that_cannot_be_are_refused(laboratory: Path, changes: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check.check(read_params() | changes, optimizers=False)


def block(**changes: object) -> dict:
    values = read_params()
    unlabelled = {
        "source": "unlabelled",
        "path": "photos",
        "classes": ["oak", "ash"],
        "test": {"share": 0.25, "seed": 0},
        "image_size": 16,
        "faults": "refuse",
        "augmentation": {"flip": True, "smallest_crop": None},
    }
    values["datasets"]["photos"] = unlabelled | changes
    values["protocols"]["demo"]["training"] |= {"epochs": 10}
    return values | {"dataset": "photos", "oracle": "people"}


def test_images_without_labels_need_people(laboratory: Path) -> None:
    check.check(block(), optimizers=False)
    with pytest.raises(ValueError, match="oracle = 'hidden': the data set photos has no labels; set oracle: people"):
        check.check(block() | {"oracle": "hidden"}, optimizers=False)
    with pytest.raises(ValueError, match=r"photos\.classes = .*'skip' is what people say who give no class; rename it"):
        check.check(block(classes=["oak", "skip"]), optimizers=False)
