"""Studies on a real SLURM of two nodes, through the study's command: nothing is lost, whatever is killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.exceptions
import pandas as pd
import pytest
import yaml

from tests import slurm_cluster
from tests.conftest import Clone
from tests.slurm_cluster import Cluster, wait_until
from tests.test_study_run import BAD, GOOD, head, names, write_study

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(slurm_cluster.why_not()), reason=f"no SLURM here: {slurm_cluster.why_not()}"),
]
STUDY = "studies/toy/study.yaml"
STATUS = [sys.executable, "-m", "study", "status", STUDY]
RUN = [sys.executable, "-m", "study", "run", STUDY, "--slurm", "cluster.yaml"]
SETTINGS = {"cpus": 1, "gpus": 1, "memory": "100M", "time_limit": "30", "arms_at_once": 2}
RATES, EPOCHS, CYCLES = [0.1, 0.05], 60, 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, pd.DataFrame]:
    """What the study gives on one machine: the hashes of each arm's results, and its table."""
    clone = Clone(tmp_path_factory.mktemp("local"))
    write_study(clone, RATES, EPOCHS, CYCLES)
    clone(*RUN[:-2], "--jobs", "2")
    return results(clone), table(clone)


@pytest.fixture
def lab(tmp_path: Path, cluster: Cluster) -> Clone:
    clone = Clone(tmp_path)
    clone.environment |= cluster.environment
    write_study(clone, RATES, EPOCHS, CYCLES)
    set_up(clone, scratch=str(tmp_path / "scratch"))
    return clone


def set_up(clone: Clone, **settings: object) -> None:
    (clone.folder / "cluster.yaml").write_text(yaml.safe_dump(SETTINGS | settings))


def results(clone: Clone) -> dict[str, dict[str, str]]:
    """The hash of every output of each arm, all but its costs."""
    found = {}
    for name in names(clone):
        lock = yaml.safe_load(clone("git", "show", f"refs/exps/{head(clone)}/{name}:dvc.lock"))
        outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
        found[name] = {out["path"]: out["md5"] for out in outs if "costs" not in out["path"]}
    return found


def table(clone: Clone) -> pd.DataFrame:
    clone("python", "-m", "study", "report", STUDY)
    tidy = pd.read_csv(clone.folder / "studies/toy/results/tidy.csv")
    varying = [name for name in tidy if "seconds" in name or "per_second" in name or "memory" in name]
    return tidy.drop(columns=[*varying, "revision"])


def start(clone: Clone) -> subprocess.Popen:
    return subprocess.Popen(
        RUN, cwd=clone.folder, env=clone.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def stands(clone: Clone) -> dict[str, str]:
    """Arm → where it stands, with all that the status says of it."""
    rows = [line.split(maxsplit=1) for line in clone(*STATUS).splitlines()[:-1]]
    return {name: " ".join(rest.split()) for name, rest in rows}


def work_of(clone: Clone) -> Path:
    return (clone.folder / ".dvc/tmp/study/toy").resolve()


def checkpoints(clone: Clone) -> list[str]:
    """The arms that have a checkpoint."""
    return sorted({file.parents[1].name for file in work_of(clone).glob("*/scratch/cycle-*.pt")})


def job_of(clone: Clone, name: str) -> tuple[str, str]:
    """The number of an arm's job, and its node."""
    return re.search(r"job (\S+) on (\S+)", stands(clone)[name]).groups()


def start_again(clone: Clone, cluster: Cluster, name: str, job: str, *settings: str) -> None:
    """Have a job started soon after it is in the queue again, where SLURM lets two minutes pass.

    Not at once: the node refuses what it was told to end within the same second.
    """
    wait_until(lambda: re.match("waiting .* BeginTime", stands(clone)[name]), "the job in the queue again")
    cluster("scontrol", "update", f"jobid={job}", "StartTime=now+3", *settings)


def test_an_array_gives_what_one_machine_gives_and_names_the_arm_that_fails(lab: Clone, reference) -> None:
    write_study(lab, [*RATES, 1e30], EPOCHS, CYCLES)
    printed = lab(*RUN, fails=True)
    assert "3 arms, 2 at once" in printed
    assert f"1 of 3 arms failed:\n  {BAD}: failed, job" in printed
    assert "error: training diverged" in printed
    assert results(lab) == reference[0]
    found = stands(lab)
    assert [found[name] for name in GOOD] == ["done 2 of 2"] * 2
    assert found[BAD].startswith("failed 0 of 2 job")
    write_study(lab, RATES, EPOCHS, CYCLES)
    pd.testing.assert_frame_equal(table(lab), reference[1])


def test_a_node_that_dies_in_a_cycle(lab: Clone, cluster: Cluster, reference) -> None:
    with start(lab) as process:
        wait_until(lambda: checkpoints(lab) == sorted(GOOD), "a checkpoint of both arms")
        (hit,) = [name for name in GOOD if job_of(lab, name)[1] == "n1"]
        job, _ = job_of(lab, hit)
        cluster.kill_node("n1")
        start_again(lab, cluster, hit, job)
        printed, _ = process.communicate()
        assert process.returncode == 0, printed
    cluster.start_node("n1")
    assert results(lab) == reference[0]
    assert "going on from the checkpoint" in (work_of(lab) / f"{hit}.log").read_text()


def test_one_arm_cancelled_and_the_coordinator_killed(lab: Clone, cluster: Cluster, reference) -> None:
    with start(lab) as process:
        wait_until(lambda: checkpoints(lab) == sorted(GOOD), "a checkpoint of both arms")
        process.kill()
    cluster("scancel", job_of(lab, GOOD[0])[0])
    wait_until(lambda: stands(lab)[GOOD[0]].startswith("failed"), "the arm that was cancelled")
    assert "is CANCELLED: error: stopped by SIGTERM: training is kept" in stands(lab)[GOOD[0]]
    assert stands(lab)[GOOD[1]].startswith(("running", "done"))
    assert "1 arms, 2 at once" in lab(*RUN)
    assert results(lab) == reference[0]
    assert "going on from the checkpoint" in (work_of(lab) / f"{GOOD[0]}.log").read_text()


def test_a_time_limit_ahead_of_the_end(lab: Clone, cluster: Cluster) -> None:
    set_up(lab, warning_seconds=90)
    write_study(lab, RATES[:1], 1000, 1)
    name = "demo-resnet18-sgd-s3"
    with start(lab) as process:
        wait_until(lambda: checkpoints(lab) == [name], "a checkpoint")
        job, _ = job_of(lab, name)
        # SLURM looks twice a minute, and then says that there is little time left.
        cluster("scontrol", "update", f"jobid={job}", "TimeLimit=2")
        log = work_of(lab) / f"{name}.log"
        start_again(lab, cluster, name, job, "TimeLimit=30")
        printed, _ = process.communicate()
        assert process.returncode == 0, printed + log.read_text()
    _, _, first, second = re.split("^--- ", log.read_text(), flags=re.MULTILINE)
    assert "stopped by SIGTERM: training is kept" in first
    assert "going on from the checkpoint" in second


def test_cancelling_cancels_all(lab: Clone, cluster: Cluster) -> None:
    with start(lab) as process:
        wait_until(lambda: checkpoints(lab), "a checkpoint")
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate()
        assert "the jobs go on" in printed
    assert "2 jobs of" in lab(sys.executable, "-m", "study", "cancel", STUDY)
    wait_until(lambda: not cluster("squeue", "--noheader"), "an empty queue")
    assert all(state.startswith("failed") for state in stands(lab).values())


@pytest.fixture
def store(lab: Clone) -> Iterator["Store"]:
    """An S3 that is DVC's remote, not running yet."""
    store = Store(lab)
    yield store
    store.stop()


class Store:
    """moto's server with one bucket, of which a laboratory is told."""

    port = 16830

    def __init__(self, lab: Clone) -> None:
        self.process = None
        lab.environment |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_MAX_ATTEMPTS": "1"}
        self.use(lab)

    def use(self, clone: Clone) -> None:
        clone("dvc", "remote", "add", "--local", "--default", "store", "s3://laboratory/cache")
        clone("dvc", "remote", "modify", "--local", "store", "endpointurl", f"http://127.0.0.1:{self.port}")

    def start(self) -> None:
        command = ["moto_server", "-H", "127.0.0.1", "-p", str(self.port)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env={**os.environ, "PATH": path}, **silent)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

        def answers() -> bool:
            try:
                return bool(client.create_bucket(Bucket="laboratory"))
            except botocore.exceptions.EndpointConnectionError:
                return False

        wait_until(answers, "moto's server")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()


def test_a_store_that_is_down_during_the_push(lab: Clone, store: Store, reference, tmp_path: Path) -> None:
    printed = lab(*RUN, fails=True)
    assert "2 of 2 arms failed" in printed
    assert "ERROR: " in printed
    assert names(lab) == []
    store.start()
    lab(*RUN)
    assert results(lab) == reference[0]
    for name in GOOD:
        assert (work_of(lab) / f"{name}.log").read_text().count("cycle 1: 30 labels, test accuracy") == 1
    # A clone elsewhere, with a cache of its own, computes nothing.
    elsewhere = lab.beside("elsewhere")
    store.use(elsewhere)
    elsewhere("dvc", "exp", "pull", "--run-cache", "origin", GOOD[0])
    elsewhere("dvc", "exp", "apply", GOOD[0])
    assert "Running stage" not in elsewhere("dvc", "repro")
    assert elsewhere.results() == reference[0][GOOD[0]]
    assert len(list((elsewhere.folder / ".dvc/cache/runs").rglob("*"))) > 0
