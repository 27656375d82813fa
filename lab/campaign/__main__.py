"""Campaigns: people as the oracle.

python -m lab.campaign [status | ask | take | trace]
"""

import csv
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pandas as pd

from lab.campaign import batches, folder, label_studio, server, take
from lab.campaign.asked import Found
from lab.campaign.batches import Batch, Campaign
from lab.data import answers, history
from lab.data.answered import AUDIT
from lab.data.answers import NO_CLASS
from lab.data.files import write_bytes
from lab.data.images.lines import lines_of
from lab.errors import BadInput, nearest
from lab.params import PARAMS_FILE
from lab.process import ending


def main() -> None:
    parser = ArgumentParser(prog="python -m lab.campaign", description="People as the oracle.")
    parser.set_defaults(run=_status)
    commands = parser.add_subparsers(metavar="COMMAND")

    def add(name: str, run, does: str) -> ArgumentParser:
        command = commands.add_parser(name, help=does)
        command.set_defaults(run=run)
        return command

    add("status", _status, "show what waits for labels, and what to do next (the default)")
    ask = add("ask", _ask, f"write the images that wait for labels to {batches.FOLDER}")
    taken = add("take", _take, "take in labels; when a batch is complete, list the next cycle")
    taken.add_argument("file", type=Path, nargs="?", help="labels.csv, or an export of Label Studio (JSON, JSON-MIN)")
    taken.add_argument("--by", help="who filled in the table; else you")
    for command in (ask, taken):
        command.add_argument("--url", help="of Label Studio: send the images there, or fetch the labels from there")
    add("trace", _trace, "show the way of an image's label").add_argument("image", help="its path, as in labels.csv")
    arguments = parser.parse_args()
    arguments.run(arguments)


def _status(_: Namespace) -> None:
    _show(batches.read())


def _show(campaign: Campaign, url: str | None = None) -> None:
    """url: of Label Studio, where labels come from there."""
    for batch in campaign.batches:
        waiting, name = len(batch.waiting), _words(batch.name)
        decided = len(batch.asked) - waiting
        if waiting:
            print(f"{name} waits for {len(batch.asked):,} labels, {decided:,} given{_why(batch)}")
        else:
            print(f"{name}: all {decided:,} images are labelled{_remarks(batch)}")
    print(f"{campaign.done} of {campaign.listed} cycles are done with these labels and params")
    if campaign.done:
        # Imported where it is used: the other commands do not wait for matplotlib.
        from lab.report import stopping

        print(stopping.line(pd.DataFrame(history.read(campaign.done))))
    if campaign.waiting and url:
        # What people disagree about, or skipped, is sent again once the rest is labelled.
        is_sent = not all(one.answers for batch in campaign.waiting for one in batch.waiting)
        do = "label, then python -m lab.campaign take" if is_sent else "python -m lab.campaign ask"
        print(f"next: {do} --url {url}")
    elif campaign.waiting:
        tables = [batches.FOLDER / batch.name / folder.TABLE for batch in campaign.waiting]
        is_asked = all(_is_current(batch, table) for batch, table in zip(campaign.waiting, tables, strict=True))
        fill = f"fill in {tables[0]}, then " if is_asked else ""
        print(f"next: {fill}python -m lab.campaign {f'take {tables[0]}' if is_asked else 'ask'}")
        if os.environ.get(server.TOKEN):
            print("with Label Studio: ask --url ADDRESS, label there, take --url ADDRESS")
    elif campaign.done < campaign.listed:
        print("next: dvc repro")
    elif take.is_used_up(campaign):
        print("the pool is used up: the campaign is at its end")
    else:
        print("next: python -m lab.campaign take")


def _is_current(batch: Batch, table: Path) -> bool:
    """Whether the folder of a batch has a table of all images that wait."""
    rows = csv.DictReader(lines_of(table)) if table.exists() else []
    return {one.image for one in batch.waiting} <= {row.get("image") for row in rows}


def _ask(arguments: Namespace) -> None:
    campaign = _taken([])
    for table in folder.write(campaign):
        print(f"{table.parent}: {len(table.read_text().splitlines()) - 1:,} images to label")
    if arguments.url and campaign.waiting:
        tasks = [
            task
            for batch in campaign.waiting
            for task in label_studio.tasks(batch.name, batch.waiting, lambda one: "", campaign.name)
        ]
        files = {one.md5: one.file for batch in campaign.waiting for one in batch.waiting}
        config = label_studio.labelling_config(campaign.classes)
        sent = server.send(arguments.url, campaign.name, config, tasks, files)
        print(f"{sent.address}: {sent.added:,} new tasks")
        print(f"next: label, then python -m lab.campaign take --url {arguments.url}")
        return
    _show(campaign)


def _take(arguments: Namespace) -> None:
    path = arguments.file
    if path is not None and arguments.url:
        raise BadInput(f"{path} and --url {arguments.url}: take labels from one of them")
    if arguments.url:
        # On disk before anything reads it.
        path = batches.FOLDER / "label_studio.json"
        write_bytes(path, server.fetch(arguments.url, batches.read().name))
    campaign = _taken([] if path is None else take.read(path, batches.read().name, arguments.by))
    if take.add_a_cycle(campaign):
        print(f"cycle {campaign.listed} is listed in {PARAMS_FILE}")
        campaign = batches.read()
    _show(campaign, arguments.url)


def _taken(found: list[Found]) -> Campaign:
    """The campaign once answers are kept, and what that changes is said."""
    campaign = batches.read()
    count, changes = take.take(campaign, found)
    if found or count:
        print(f"{count:,} of {len(found):,} answers are new, and kept in {answers.FOLDER / campaign.name}")
    for change in changes:
        print(f"{_words(change.batch)}, {change.image}: was {change.before}, is {change.after or 'not decided'} now")
    first, last = take.stale(changes), campaign.done - 1
    if first is not None and first <= last:
        between = "and" if last == first + 1 else "to"
        cycles, them = (f"cycle {first}", "it") if first == last else (f"cycles {first} {between} {last}", "them")
        print(f"{cycles} used other labels: the next dvc repro runs {them} again, and may ask about other images")
    if count:
        print(f"keep them in Git: git add {answers.FOLDER} && git commit -m 'more labels'")
    return batches.read()


def _trace(arguments: Namespace) -> None:
    """Who said what of an image, and which cycles train on it."""
    campaign = batches.read()
    batch_of = {one.image: (batch, one) for batch in campaign.batches for one in batch.asked}
    if arguments.image not in batch_of:
        raise BadInput(f"{arguments.image!r} was not asked about{nearest(arguments.image, batch_of)}")
    batch, asked = batch_of[arguments.image]
    about = "" if asked.predicted is None else f", predicted {asked.predicted} with {asked.confidence:.0%}"
    about += "" if asked.score is None else f", score {asked.score:.4g}"
    print(f"asked about in {_words(batch.name)}{about}; file {asked.file}, MD5 {asked.md5}")
    for answer in sorted(batch.given, key=lambda answer: (answer.at, answer)):
        if answer.image == asked.image:
            print(f"{answer.at}: {answer.by} said {answer.label} ({answer.tool})")
    decided = answers.decide(batch.given).get(asked.image)
    if decided is None:
        print("not decided yet")
    elif decided == NO_CLASS:
        print("no class fits: no cycle uses it")
    elif batch.name == AUDIT:
        print(f"decided: {decided}; every cycle is measured on it, and none trains on it")
    else:
        print(f"decided: {decided}; cycles from {batch.name} on train on it")


def _words(batch: str) -> str:
    return "the audit set" if batch == AUDIT else f"batch {batch}"


def _why(batch: Batch) -> str:
    """Why images wait that have answers."""
    votes = answers.votes(batch.given)
    found = [votes[one.image] for one in batch.waiting if one.image in votes]
    tied, skipped = sum(bool(counts) for counts in found), sum(not counts for counts in found)
    parts = [f"{count} {what}" for count, what in ((tied, "tied"), (skipped, "skipped")) if count]
    return f" ({', '.join(parts)})" if parts else ""


def _remarks(batch: Batch) -> str:
    """What is noteworthy of a batch that is decided."""
    votes, decided = answers.votes(batch.given), answers.decide(batch.given)
    disputed = sum(len(votes[one.image]) > 1 for one in batch.asked)
    unfit = sum(decided[one.image] == NO_CLASS for one in batch.asked)
    said = f", people disagree about {disputed}" if disputed else ""
    return said + (f", no class fits {unfit}" if unfit else "")


if __name__ == "__main__":
    ending.run(main)
