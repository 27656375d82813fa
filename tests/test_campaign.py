"""Campaigns: what several people say, what is taken in and refused, and cycles that know no other labels."""

import csv
import json
import os
import re
import sys
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from string import Template

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab.campaign import __main__, batches, folder, server
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
from tests.conftest import FIRST_LABELLED, POOL_SIZE, ROOT, TEST_SIZE, RecordingHost, read_params, write_params

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
TABLE = Path("data/batches/0/labels.csv")
IMAGE = f"train/{FIRST_LABELLED[0]:05d}.bmp"


def path_of(batch: str) -> Path:
    return answers.path_of("cifar10", batch)


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
    path = path_of("0")
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
    for name in ("prepare", "cold_start"):
        locked(name)
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


def locked(name: str, number: int = 0) -> None:
    """Write the entry of a stage in dvc.lock, as DVC would after it: without code and folders."""
    of_stage = STAGES[name].get("do", STAGES[name])
    values = read_params()

    def filled(text: str) -> str:
        text = re.sub(r"\$\{item\[(\d)\]\}", lambda found: str(number + int(found[1])), text)
        return Template(text).safe_substitute(values)

    def value_of(key: str) -> object:
        found = values
        for part in filled(key).split("."):
            found = found[part]
        return found

    files = [Path(filled(text)) for key in ("deps", "outs") for text in of_stage[key] if isinstance(text, str)]
    entry = {
        "deps": [
            {"path": str(path), "md5": md5(path.read_bytes()).hexdigest()}
            for path in files
            if path.is_file() and path.parts[0] in ("data", "metrics")
        ],
        "params": {"params.yaml": {filled(key): value_of(key) for key in of_stage["params"]}},
    }
    lock = json.loads(batches.LOCK.read_text()) if batches.LOCK.exists() else {"stages": {}}
    lock["stages"][name if name in ("prepare", "cold_start") else f"{name}@{number}"] = entry
    write_text(batches.LOCK, json.dumps(lock))


def run(number: int) -> RecordingHost:
    """A cycle, as DVC runs it."""
    stage.main(RecordingHost())
    host = RecordingHost()
    cycle.main(host, str(number))
    locked("cycle", number)
    return host


def test_a_campaign_of_two_batches(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    command()
    assert f"the audit set waits for {TEST_SIZE} labels, 0 given\nbatch 0 waits for 6 labels" in capsys.readouterr().out
    label_all(AUDIT, "0")
    assert "next: dvc repro" in capsys.readouterr().out
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
    assert "batch 2 waits for 5 labels, 0 given\n2 of 2 cycles are done with these labels and params" in printed
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
    path = path_of(missing)
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
    stage.main(RecordingHost())
    assert answered.labels("0", POOL_SIZE)[FIRST_LABELLED[2]] == UNFIT
    assert "batch 0: all 6 images are labelled, people disagree about 1, no class fits 1\n" in capsys.readouterr().out


def test_a_table_that_was_filled_in_is_never_written_over(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    command("ask")
    filled = fill_in("0").read_bytes()
    beside = TABLE.with_name("labels-anna.xlsx")
    beside.write_text("anna's own")
    command("ask")
    assert TABLE.with_name("labels-1.csv").read_bytes() == filled
    assert "the table that was there is data/batches/0/labels-1.csv now; take it" in capsys.readouterr().out
    assert beside.read_text() == "anna's own"
    command("ask")
    assert not TABLE.with_name("labels-2.csv").exists(), "nobody filled in the new one"
    TABLE.write_text(TABLE.read_text().replace(",\n", ",1,\n", 1))
    command("ask")
    assert TABLE.with_name("labels-2.csv").exists(), "a label before a comma too many"


@pytest.mark.parametrize("token", ["", "a.b.c"])
def test_who_has_a_token_of_label_studio_is_told_how(
    campaign: Path, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(server.TOKEN, token)
    command()
    assert ("with Label Studio: ask --url ADDRESS" in capsys.readouterr().out) == bool(token)


def test_a_table_without_labels_is_written_anew(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    command("ask")
    table = TABLE.read_text()
    write_text(Path("half.csv"), "image,label\n" + ",".join([table.splitlines()[1].split(",")[1], "1\n"]))
    command("take", "half.csv")
    command("ask")
    assert len(TABLE.read_text().splitlines()) == len(table.splitlines()) - 1
    assert not TABLE.with_name("labels-1.csv").exists()
    assert "the table that was there" not in capsys.readouterr().out


def test_what_another_person_says_of_a_decided_image_is_taken(campaign: Path) -> None:
    command("ask")
    command("take", at(fill_in("0"), 1), "--by", "anna")
    write_text(TABLE, f"image,label,by\n{IMAGE},9,ben\n")
    command("take", TABLE)
    command("ask")
    assert [row.split(",")[1] for row in TABLE.read_text().splitlines()[1:]] == [IMAGE]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            f"{IMAGE},,11",
            r"labels\.csv, line 2: '11' is no class; choose from 0, .*, skip, no class fits \(did you mean 1\?\)",
        ),
        ("train/00030.bmp,,1", r"line 2: 'train/00030\.bmp' was not asked about"),
        ("train/99999.bmp,,1", r"line 2: 'train/99999\.bmp' was not asked about"),
        (f"{IMAGE},{'0' * 32},1", f"line 2: {IMAGE} has changed since it was asked about; bring the image back"),
        (f"{IMAGE},1", "line 2: 2 values, and the first line has 3; is the file whole"),
    ],
)
def test_bad_answers_are_refused_as_a_whole(campaign: Path, row: str, why: str) -> None:
    command("ask")
    other = f"train/{FIRST_LABELLED[1]:05d}.bmp"
    write_text(TABLE, f"image,md5,label\n{row}\n{other},,3\n")
    with pytest.raises(BadInput, match=why):
        command("take", TABLE)
    assert not path_of("0").exists()


def test_a_table_in_another_encoding_is_named(campaign: Path) -> None:
    command("ask")
    TABLE.write_bytes(TABLE.read_bytes() + "é".encode("latin1"))
    with pytest.raises(BadInput, match=r"labels\.csv, line \d+: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        command()


def test_a_table_without_its_columns_is_refused(campaign: Path) -> None:
    write_text(Path("x.csv"), "name,label\na,1\n")
    with pytest.raises(BadInput, match=r"x\.csv, line 1: no column 'image'; it must have image and label, with commas"):
        command("take", "x.csv")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{image},{md5},11,anna,t,table", "line 2: '11' is no class"),
        ("train/1.bmp,{md5},1,anna,t,table", r"line 2: 'train/1\.bmp' is no image of the train set"),
        ("{image},0,1,anna,t,table", "line 2: train/.* has changed since it was asked about; bring the image back"),
        ("{image},{md5},1,anna", "line 2: must have 6 values; mend or remove the line"),
    ],
)
def test_a_file_of_answers_that_was_edited_is_checked(campaign: Path, line: str, why: str) -> None:
    source = prepared.read_sources("train")[3]
    header = ",".join(Answer._fields)
    write_text(path_of("0"), f"{header}\n{line.format(image=source.name, md5=source.md5)}\n")
    with pytest.raises(BadInput, match=why):
        stage.main(RecordingHost())


def test_taking_a_file_again_or_after_a_kill_gives_the_same(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("ask")
    both = Path("both.csv")
    rows = [row for name in ("0", AUDIT) for row in fill_in(name).read_text().splitlines()[1:]]
    write_text(both, "\n".join([",".join(folder.COLUMNS), *rows]) + "\n")
    at(both, 7)

    def killed(kept: object, path: Path) -> None:
        if path == path_of(AUDIT):
            raise KeyboardInterrupt
        write(kept, path)

    write = answers.write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(answers, "write", killed)
        command("take", both)
    assert path_of("0").exists()
    command("take", both)
    found = [path_of(name).read_bytes() for name in (AUDIT, "0")]
    command("take", at(both, 9))
    assert [path_of(name).read_bytes() for name in (AUDIT, "0")] == found, "they say nothing new"
    for name in (AUDIT, "0"):
        path_of(name).unlink()
    command("take", at(both, 7))
    assert [path_of(name).read_bytes() for name in (AUDIT, "0")] == found


def test_a_label_that_changes_says_which_cycles_are_stale(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    label_all(AUDIT, "0")
    run(0)
    label_all("1")
    run(1)
    image = batches.read().batches[2].asked[0].image
    write_text(Path("x.csv"), f"image,label\n{image},{(int(label_of(image)) + 1) % 10}\n")
    kept = answers.read(path_of("1"))
    capsys.readouterr()
    command("take", "x.csv")
    printed = capsys.readouterr().out
    assert f"batch 1, {image}: was {label_of(image)}, is {(int(label_of(image)) + 1) % 10} now" in printed
    assert "cycle 1 used other labels: the next dvc repro runs it again, and may ask" in printed
    assert "1 of 2 cycles are done with these labels and params\n" in printed
    assert "\nnext: dvc repro" in printed
    assert "keep them in Git: git add data/answers" in printed
    assert set(kept) < set(answers.read(path_of("1"))), "what was said before stays"


def test_an_image_that_is_asked_about_again_in_another_batch_has_its_answers_and_what_corrects_them(
    campaign: Path,
) -> None:
    label_all(AUDIT, "0")
    run(0)
    label_all("1")
    moved = batches.read().batches[2].asked[0]
    # As if other labels had made cycle 0 ask about other images: this one was in batch 0 until then.
    given = answers.read(path_of("1"))
    answers.write([*answers.read(path_of("0")), *given], path_of("0"))
    path_of("1").unlink()
    run(0)
    command("ask")
    assert moved.image in answers.decide(answers.read(path_of("1")))
    asked = next(one for one in batches.read().batches[2].asked if one.image == moved.image)
    assert asked.answers == 1, "it stands in two files"
    other = str((int(label_of(moved.image)) + 2) % 10)
    write_text(Path("x.csv"), f"image,label\n{moved.image},{other}\n")
    command("take", "x.csv")
    write_params({**read_params(), "cycles": [[0, 1], [1, 2]]})
    stage.main(RecordingHost())
    assert answered.labels("1", POOL_SIZE)[int(moved.image[6:11])] == int(other), "trace and training agree"


def test_labels_of_a_batch_that_cycles_no_longer_ask_about_are_kept(campaign: Path) -> None:
    label_all(AUDIT, "0")
    run(0)
    command("ask")
    filled = fill_in("1")
    write_text(Path("x.csv"), f"image,label\n{IMAGE},{(int(label_of(IMAGE)) + 1) % 10}\n")
    command("take", "x.csv")
    assert len(batches.read().batches) == 2, "cycle 0 is to be run again"
    command("take", filled)
    assert len(answers.read(path_of(answers.OTHER))) == 5


def test_answers_that_a_file_has_are_in_no_other_one_too(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    label_all(AUDIT, "0")
    run(0)
    command("ask")
    filled = fill_in("1")
    command("take", at(filled, 7))
    write_text(Path("x.csv"), f"image,label\n{IMAGE},{(int(label_of(IMAGE)) + 1) % 10}\n")
    command("take", "x.csv")
    assert len(batches.read().batches) == 2, "cycle 0 is to be run again"
    capsys.readouterr()
    command("take", filled)
    command("take", at(filled, 9))  # said again, later
    assert capsys.readouterr().out.count("0 of 5 answers are new") == 2
    assert not path_of(answers.OTHER).exists()


def export(task: int, image: str, label: str) -> dict:
    """A task of an export of Label Studio."""
    source = next(source for source in prepared.read_sources("train") if source.name == image)
    data = {"image": "x", "path": image, "md5": source.md5, "batch": "0", "campaign": "cifar10"}
    result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
    time = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    annotation = {"id": task, "completed_by": 7, "result": [result], "was_cancelled": False, **time}
    return {"id": task, "data": data, "annotations": [annotation]}


def test_labels_come_from_label_studio(
    campaign: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sent = []

    def send(url: str, title: str, config: str, tasks: list[dict], files: dict) -> server.Sent:
        sent.extend(tasks)
        assert {task["data"]["md5"] for task in tasks} <= files.keys()
        return server.Sent(f"{url}/projects/1", len(tasks))

    monkeypatch.setattr(server, "send", send)
    content = json.dumps([export(5, IMAGE, "3"), export(6, "train/00030.bmp", "4")]).encode()
    monkeypatch.setattr(server, "fetch", lambda url, title: content)
    command("ask", "--url", "http://here")
    assert len(sent) == TEST_SIZE + 6
    assert "http://here/projects/1: 18 new tasks\nnext: label, then" in capsys.readouterr().out
    command("take", "--url", "http://here")
    printed = capsys.readouterr().out
    assert "2 of 2 answers are new" in printed
    assert "batch 0 waits for 6 labels, 1 given" in printed
    assert "next: label, then python -m lab.campaign take --url http://here" in printed
    assert [one.label for one in answers.read(path_of("0"))] == ["3"]
    assert [one.by for one in answers.read(path_of(answers.OTHER))] == ["7"], "it was asked about by an earlier run"
    write_text(Path("export.json"), content.decode())
    command("take", "export.json")
    assert "0 of 2 answers are new" in capsys.readouterr().out
    # Another person says another class: the tie becomes another task.
    write_text(Path("x.csv"), f"image,label,by\n{IMAGE},4,ben\n")
    command("take", "x.csv")
    sent.clear()
    command("ask", "--url", "http://here")
    assert [task["data"]["answers"] for task in sent if task["data"]["path"] == IMAGE] == [2]


@pytest.mark.parametrize("change", ["params", "answers", "history"])
def test_a_cycle_that_is_stale_is_not_done(campaign: Path, change: str) -> None:
    label_all(AUDIT, "0")
    run(0)
    assert batches.read().done == 1
    if change == "params":
        write_params({**read_params(), "seed": 5})
    elif change == "answers":
        write_text(Path("x.csv"), f"image,label\n{IMAGE},{(int(label_of(IMAGE)) + 1) % 10}\n")
        command("take", "x.csv")
    else:
        write_text(history.path_of(1), "[]")
    assert batches.read().done == 0


def test_a_run_with_hidden_labels_is_no_campaign(campaign: Path) -> None:
    write_params({**read_params(), "oracle": "hidden"})
    run(0)
    write_params({**read_params(), "oracle": "people"})
    assert batches.read().done == 0
    command("ask")


def test_images_of_another_data_set_are_not_asked_about(campaign: Path) -> None:
    write_params({**read_params(), "dataset": "digits"})
    with pytest.raises(BadInput, match="the first images of digits are not chosen yet: run `dvc repro cold_start`"):
        command()


def test_a_pool_that_is_used_up_ends_the_campaign(campaign: Path, capsys: pytest.CaptureFixture) -> None:
    values = read_params()
    values["protocols"]["demo"]["query"]["labels"] = 40
    write_params(values)
    label_all(AUDIT, "0")
    run(0)
    label_all("1")
    assert read_params()["cycles"] == [[0, 1]]
    assert "the pool is used up: the campaign is at its end" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("29.11.2026", "Invalid isoformat"),
        ("2026-01-01T00:00:00", "no time zone"),
        ("2099-01-01T00:00:00Z", "yet to come"),
    ],
)
def test_a_time_that_would_not_sort_is_refused(campaign: Path, when: str, why: str) -> None:
    write_text(Path("x.csv"), f"image,label,at\n{IMAGE},1,{when}\n")
    with pytest.raises(BadInput, match=rf"x\.csv, line 2: at = '{when}', {why}"):
        command("take", "x.csv")


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
