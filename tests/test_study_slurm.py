"""Studies on a real SLURM of two nodes, through the study's command: nothing is lost, whatever is killed."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import boto3
import botocore.exceptions
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import BadInput
from lab.study import experiments, plan
from lab.study import table as tidy
from lab.study.run import cluster as cluster_file
from lab.study.run import slurm
from lab.study.run.states import Job
from tests import slurm_cluster
from tests.conftest import Clone
from tests.slurm_cluster import Cluster, wait_until
from tests.test_study_run import BAD, GOOD, head, names, write_study

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(bool(slurm_cluster.why_not()), reason=f"no SLURM here: {slurm_cluster.why_not()}"),
]
STUDY = "studies/toy/study.yaml"
STATUS = [sys.executable, "-m", "lab.study", "status", STUDY]
RUN = [sys.executable, "-m", "lab.study", "run", STUDY, "--slurm", "cluster.yaml"]
SETTINGS = {"cpus": 1, "gpus": 1, "memory": "100M", "time_limit": "30", "arms_at_once": 2}
RATES, EPOCHS, CYCLES = [0.1, 0.05], 80, 2
ENDLESS = 1_000_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, pd.DataFrame]:
    """What the study gives on one machine: the hashes of each arm's results, and its table."""
    clone = Clone(tmp_path_factory.mktemp("local"))
    # As many threads as a job of SETTINGS has.
    clone.environment["OMP_NUM_THREADS"] = "1"
    write_study(clone, RATES, EPOCHS, CYCLES)
    clone(*RUN[:-2], "--jobs", "2")
    return results(clone), table_of(clone)


@pytest.fixture
def lab(tmp_path: Path, cluster: Cluster) -> Iterator[Clone]:
    clone = Clone(tmp_path)
    write_study(clone, RATES, EPOCHS, CYCLES)
    set_up(clone, scratch=str(tmp_path / "scratch"))
    yield clone
    cluster("scancel", "--me")
    wait_until(lambda: not cluster("squeue", "--noheader"), "an empty queue")


def set_up(clone: Clone, **changes: object) -> None:
    (clone.folder / "cluster.yaml").write_text(yaml.safe_dump(SETTINGS | changes))


def results(clone: Clone) -> dict[str, dict[str, str]]:
    """The hash of every output of each arm."""
    found = {}
    for name in names(clone):
        lock = yaml.safe_load(clone("git", "show", f"refs/exps/{head(clone)}/{name}:dvc.lock"))
        outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
        found[name] = {out["path"]: out["md5"] for out in outs}
    return found


def table_of(clone: Clone) -> pd.DataFrame:
    """The study's tidy table, without what differs from run to run."""
    revision = head(clone).replace("/", "")
    with chdir(clone.folder):
        arms = plan.read(Path(STUDY), Path("params.yaml").read_text())
        table = tidy.collect(arms, experiments.finished(arms, revision))
    varying = [name for name in table if "seconds" in name or "per_second" in name or "memory" in name]
    return table.drop(columns=[*varying, "revision"])


@contextmanager
def started(clone: Clone) -> Iterator[subprocess.Popen]:
    """The study, being run."""
    with subprocess.Popen(
        RUN, cwd=clone.folder, env=clone.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def statuses(clone: Clone) -> dict[str, str]:
    """Arm → its status, with all details."""
    rows = [line.split(maxsplit=1) for line in clone(*STATUS).splitlines()[:-1]]
    return {name: " ".join(rest.split()) for name, rest in rows}


def folder_of(clone: Clone) -> Path:
    return (clone.folder / ".dvc/tmp/study/toy").resolve()


def checkpoints(clone: Clone) -> list[str]:
    """The arms that have a checkpoint."""
    return sorted({file.parents[1].name for file in folder_of(clone).glob("*/scratch/cycle-*.pt")})


def jobs(clone: Clone) -> dict[str, Job]:
    """The arms' jobs that SLURM lists."""
    found = slurm.jobs_of(folder_of(clone), head(clone).replace("/", ""))
    return {name: job for name, job in found.items() if job}


def running(clone: Clone) -> dict[str, Job]:
    """The jobs of the arms that run."""
    return {name: job for name, job in jobs(clone).items() if job.state == "RUNNING"}


def start_again(clone: Clone, cluster: Cluster, name: str, *settings: str) -> None:
    """Have a job started soon after it went back into the queue, where SLURM lets two minutes pass.

    Not at once: the node refuses a job that it was told to end within the same second.
    """
    wait_until(lambda: jobs(clone)[name].why == "BeginTime", "the job back in the queue")
    cluster("scontrol", "update", f"jobid={jobs(clone)[name].number}", "StartTime=now+3", *settings)


def test_an_array_gives_what_one_machine_gives_and_names_the_arm_that_fails(lab: Clone, reference) -> None:
    write_study(lab, [*RATES, 1e30], EPOCHS, CYCLES)
    printed = lab(*RUN, fails=True)
    assert "3 of 3 arms, 2 at once" in printed
    assert f"1 of 3 arms failed:\n  {BAD}: failed, job" in printed
    assert "error: training diverged" in printed
    assert results(lab) == reference[0]
    found = statuses(lab)
    assert [found[name] for name in GOOD] == ["done 2 of 2"] * 2
    assert found[BAD].startswith("failed 0 of 2 job")
    write_study(lab, RATES, EPOCHS, CYCLES)
    pd.testing.assert_frame_equal(table_of(lab), reference[1])


def test_a_node_that_dies_in_a_cycle(lab: Clone, cluster: Cluster, reference) -> None:
    with started(lab) as process:
        wait_until(lambda: len(running(lab)) == 2, "both arms at work")
        (hit,) = [name for name, job in running(lab).items() if job.node == "n1"]
        wait_until(lambda: hit in checkpoints(lab), "a checkpoint of the arm on the first node")
        with cluster.without_node("n1"):
            start_again(lab, cluster, hit)
            printed, _ = process.communicate()
        assert process.returncode == 0, printed
    assert results(lab) == reference[0]
    assert "going on from the checkpoint" in (folder_of(lab) / f"{hit}.log").read_text()


def test_one_arm_cancelled_and_the_coordinator_killed(lab: Clone, cluster: Cluster, reference) -> None:
    with started(lab) as process:
        wait_until(lambda: len(running(lab)) == 2, "both arms at work")
        process.kill()
    wait_until(lambda: GOOD[0] in checkpoints(lab), "a checkpoint of the arm to be cancelled")
    cluster("scancel", running(lab)[GOOD[0]].number)
    wait_until(lambda: jobs(lab)[GOOD[0]].state == "CANCELLED", "the arm that was cancelled")
    found = statuses(lab)
    assert found[GOOD[0]].startswith("failed")
    assert "is CANCELLED; run the study again" in found[GOOD[0]]
    assert found[GOOD[1]].startswith(("running", "done"))
    log = folder_of(lab) / f"{GOOD[0]}.log"
    assert "error: stopped by SIGTERM: training is kept" in log.read_text()
    begun = head(lab)
    # The study goes on where it was begun, and as it was then.
    lab("git", "commit", "--quiet", "--allow-empty", "-m", "meanwhile")
    assert "1 of 2 arms, 2 at once" in lab(*RUN)
    lab("git", "checkout", "--quiet", begun.replace("/", ""))
    assert results(lab) == reference[0]
    assert "going on from the checkpoint" in log.read_text()


def test_a_time_limit_ahead_of_the_end_concerns_one_arm(lab: Clone, cluster: Cluster) -> None:
    set_up(lab, warning_seconds=90)
    write_study(lab, RATES, ENDLESS, 1)
    with started(lab) as process:
        wait_until(lambda: checkpoints(lab) == sorted(GOOD), "a checkpoint of both arms")
        process.kill()
    # The last of the array, whose job has the number of the whole.
    found = running(lab)
    hit = max(found, key=lambda name: int(found[name].number.rpartition("_")[2]))
    (other,) = set(GOOD) - {hit}
    # SLURM looks twice a minute, and then says that there is little time left.
    cluster("scontrol", "update", f"jobid={found[hit].number}", "TimeLimit=2")
    start_again(lab, cluster, hit, "TimeLimit=30")
    log = folder_of(lab) / f"{hit}.log"
    wait_until(lambda: "going on from the checkpoint" in log.read_text(), "a second attempt")
    first, second = re.split("^--- ", log.read_text(), flags=re.MULTILINE)[-2:]
    assert "stopped by SIGTERM: training is kept" in first
    assert "going on from the checkpoint" in second
    assert (folder_of(lab) / f"{other}.log").read_text().count("stopped by SIGTERM") == 0
    assert set(running(lab)) == set(GOOD)
    assert "2 jobs of" in lab(sys.executable, "-m", "lab.study", "cancel", STUDY)
    wait_until(lambda: not cluster("squeue", "--noheader"), "an empty queue")
    stopped = "waiting 0 of 1 stopped by a signal; run the study again to resume it"
    assert statuses(lab) == dict.fromkeys(GOOD, stopped)


def test_what_arms_share_is_not_computed_by_all_of_them(lab: Clone) -> None:
    lab.environment["AL_LAB_CIFAR10"] = str(lab.folder / "nowhere")
    study = yaml.safe_load(lab.read(STUDY)) | {
        "protocol": "cpu_study",
        "dataset": "cifar10",
        "arms": {"optim": ["sgd", "adam"]},
    }
    (lab.folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False))
    printed = lab(*RUN, fails=True)
    assert "2 of 2 arms failed" in printed
    assert printed.count("error: its data or first labelled set could not be prepared: see ") == 2
    log = folder_of(lab) / "cpu_study-resnet18-sgd-s3.log"
    assert printed.count(f"see {log}") == 2
    assert "error: AL_LAB_CIFAR10 = " in log.read_text()


@settings(max_examples=60)
@given(
    st.from_regex("[0-9]{1,10}[KMGTkm]?B?", fullmatch=True),
    st.from_regex("([0-9]{1,7}-)?[0-9]{1,7}(:[0-9]{1,7}){0,3}", fullmatch=True),
    st.integers(-1, 70_000),
)
def test_sbatch_understands_what_is_not_refused(
    cluster: Cluster, tmp_path: Path, memory: str, time_limit: str, warning: int
) -> None:
    values = {"memory": memory, "time_limit": time_limit, "warning_seconds": warning}
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(SETTINGS | values))
    try:
        found = cluster_file.read(file)
    except BadInput:
        return
    command = [*slurm.command(found, "toy", tmp_path, 2, None), "--test-only"]
    done = subprocess.run(command, input=slurm.script(found, tmp_path / "toy.json"), text=True, capture_output=True)
    assert done.returncode == 0 or "Requested node configuration is not available" in done.stderr, done.stderr


def test_a_store_that_goes_down_during_the_push(lab: Clone, store: "Store", reference) -> None:
    store.start()
    with started(lab) as process:
        wait_until(store.objects, "a first object in the store")
        store.stop()
        printed, _ = process.communicate()
        assert process.returncode, printed
    missing = sorted(set(GOOD) - set(names(lab)))
    assert f"{len(missing)} of 2 arms failed" in printed
    assert "`dvc push --run-cache` failed" in printed
    # Without its clone, an arm has its cycles from the run-cache that all share.
    shutil.rmtree(folder_of(lab) / missing[0])
    # A new one, which has nothing of the old.
    store.start()
    lab(*RUN)
    assert results(lab) == reference[0]
    for name in GOOD:
        log = (folder_of(lab) / f"{name}.log").read_text()
        assert len(re.findall(r"^cycle 1: .* labels, test accuracy", log, re.MULTILINE)) == 1
    # A clone elsewhere, with a cache of its own, computes nothing.
    elsewhere = lab.beside("elsewhere")
    store.use(elsewhere)
    elsewhere("dvc", "exp", "pull", "--run-cache", "origin", missing[0])
    elsewhere("dvc", "exp", "apply", missing[0])
    assert "Running stage" not in elsewhere("dvc", "repro")
    assert elsewhere.results() == reference[0][missing[0]]
    # Nor where only the run-cache knows what was computed.
    (elsewhere.folder / "dvc.lock").unlink()
    printed = elsewhere("dvc", "repro", "cycle@1")
    assert "Stage 'cycle@1' is cached" in printed
    assert "Running stage" not in printed


@pytest.fixture
def store(lab: Clone) -> Iterator["Store"]:
    """An S3 that is DVC's remote, not running yet."""
    store = Store(lab)
    yield store
    store.stop()


class Store:
    """moto's server with one bucket, of which a laboratory is told."""

    def __init__(self, lab: Clone) -> None:
        self.process = None
        self.port = slurm_cluster.free_port()
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
        lab.environment |= {**keys, "AWS_MAX_ATTEMPTS": "1"}
        self.use(lab)
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def use(self, clone: Clone) -> None:
        clone("dvc", "remote", "add", "--local", "--default", "store", "s3://laboratory/cache")
        clone("dvc", "remote", "modify", "--local", "store", "endpointurl", self.url)

    def start(self) -> None:
        command = [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._has_bucket, "moto's server")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def objects(self) -> int:
        return self.client.list_objects_v2(Bucket="laboratory")["KeyCount"]

    def _has_bucket(self) -> bool:
        try:
            return bool(self.client.create_bucket(Bucket="laboratory"))
        except botocore.exceptions.EndpointConnectionError:
            return False
