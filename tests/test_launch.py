"""A stage that is forked from the warm process is like one that was started by itself."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.process import launch, warm

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone")


@pytest.fixture
def stage(tmp_path: Path):
    """Runs a stage of the given lines, in a laboratory whose check passes always."""
    folder = tmp_path / "stages"
    folder.mkdir()
    for name in ("launch.py", "warm.py"):
        (folder / name).write_text((ROOT / "stages" / name).read_text())
    (folder / "check.py").write_text("")

    def start(*lines: str, arguments: tuple[str, ...] = (), **options: object) -> subprocess.Popen:
        # Never half written: an earlier stage can be about to read it.
        (folder / "written").write_text("\n".join(lines))
        (folder / "written").replace(folder / "toy.py")
        # Tests that run in the background of a shell ignore SIGINT, and so would what they start.
        options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        return subprocess.Popen(
            [sys.executable, "-m", "lab.process.launch", "toy", *arguments],
            cwd=tmp_path,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    return start


def environment(is_loaded: bool) -> dict[str, str]:
    """That of the tests before, or a new one: its process is still importing when the stage starts."""
    return {**os.environ} if is_loaded else {**os.environ, "TOY": str(time.time())}


def parent_of(pid: int) -> str:
    """The command line of a process's parent."""
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return Path(f"/proc/{parent}/cmdline").read_text()


def test_arguments_streams_folder_environment_and_status_are_those_of_the_caller(stage, tmp_path: Path) -> None:
    process = stage(
        "import os, sys",
        "print(sys.argv, os.getcwd(), os.environ['TOY'], __name__, sys.stdin.read())",
        "print('to the other stream', file=sys.stderr)",
        "sys.exit(7)",
        arguments=("a", "b c"),
        env={**os.environ, "TOY": "yes"},
    )
    printed, _ = process.communicate("typed")
    assert f"/toy.py', 'a', 'b c'] {tmp_path} yes __main__ typed" in printed
    assert "to the other stream" in printed
    assert process.returncode == 7


def test_stages_are_forked_from_one_process_and_run_the_code_on_disk(stage) -> None:
    process = stage("import os; print(os.getpid(), os.getppid()); input()")
    pid, warm_pid = process.stdout.readline().split()
    assert "lab.process.warm" in parent_of(int(pid))
    process.communicate("\n")
    assert stage("import os; print('changed', os.getppid())").communicate()[0].split() == ["changed", warm_pid]


def test_libraries_are_loaded_before_the_stage_starts_and_cuda_is_not(stage) -> None:
    for _ in warm.LIBRARIES:
        stage("").communicate()  # between two stages the process imports one library at least
    process = stage(
        "import sys; print(*sys.modules); print(sys.modules['torch'].cuda._is_in_bad_fork())",
        "print('\\033[31mred')",
    )
    loaded, is_cuda_broken, red = process.communicate()[0].splitlines()
    assert {"torch", "torch._dynamo", *warm.LIBRARIES} <= set(loaded.split())
    # What has started CUDA cannot fork a stage that uses it.
    assert is_cuda_broken == "False"
    # Libraries that are loaded on no terminal strip no colours of a stage that has one.
    assert red == "\033[31mred"


@pytest.mark.parametrize("is_loaded", [True, False])
def test_lines_are_printed_as_they_come(stage, is_loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    process = stage(
        "import select, sys",
        "print('a line')",
        "is_typed, _, _ = select.select([sys.stdin], [], [], 10)",
        "print('answered' if is_typed else 'nobody answered')",
        env=environment(is_loaded),
    )
    assert process.stdout.readline() == "a line\n"
    assert process.communicate("now that it is read\n")[0] == "answered\n"


def test_a_failing_check_stops_the_stage(stage, tmp_path: Path) -> None:
    process = stage("print('the stage ran')")
    process.communicate()
    (tmp_path / "stages" / "check.py").write_text("import sys; print('refused'); sys.exit(2)")
    process = stage("print('the stage ran')")
    assert process.communicate()[0] == "refused\n"
    assert process.returncode == 2


def test_an_error_is_printed_and_is_a_failure(stage) -> None:
    process = stage("raise ValueError('what is wrong')")
    assert "ValueError: what is wrong" in process.communicate()[0]
    assert process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_stage(stage, number: signal.Signals) -> None:
    process = stage(
        "import signal, sys, time",
        f"signal.signal({number.value}, lambda *_: sys.exit(5))",
        "print('ready', flush=True)",
        "time.sleep(60)",
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(10) == 5


def test_a_stage_ends_in_peace_where_every_process_is_told_to(stage) -> None:
    process = stage(
        "import os, signal, sys, time",
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), print('training is kept'), sys.exit(5)))",
        "print(os.getppid(), os.getpid(), flush=True)",
        "time.sleep(60)",
    )
    warm_process, pid = map(int, process.stdout.readline().split())
    assert "lab.process.warm" in parent_of(pid)
    for number in (warm_process, pid, process.pid):  # as a cluster does that cancels a job
        os.kill(number, signal.SIGTERM)
    assert process.communicate()[0] == "training is kept\n"
    assert process.returncode == 5
    # A stage that does not listen for it is ended by it, as ever.
    process = stage("import time; print('ready', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_a_signal_that_the_caller_ignores_is_ignored(stage) -> None:
    stage("").communicate()  # its process ignores nothing, and is not the one to fork the next
    process = stage(
        "import os; print(os.getpid()); input(); print('to the end')",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
    )
    for pid in (int(process.stdout.readline()), process.pid):
        os.kill(pid, signal.SIGHUP)
    assert process.communicate("\n")[0] == "to the end\n"
    assert process.returncode == 0


def test_a_signal_that_ends_the_stage_ends_the_caller(stage) -> None:
    process = stage("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("is_loaded", [True, False])
def test_the_stage_does_not_outlive_the_caller(stage, is_loaded: bool) -> None:
    process = stage("import time; print('ready', flush=True); time.sleep(60)", env=environment(is_loaded))
    assert process.stdout.readline() == "ready\n"
    process.kill()
    # The pipe closes when the last process that holds it is gone.
    started = time.monotonic()
    assert process.stdout.read() == ""
    assert time.monotonic() - started < 1


def test_callers_that_are_killed_leave_another_stage_alone(stage) -> None:
    other = stage("print('ready'); input(); print('to the end')")
    assert other.stdout.readline() == "ready\n"
    killed = [stage("import time; print('ready', flush=True); time.sleep(60)") for _ in range(30)]
    for process in killed:
        assert process.stdout.readline() == "ready\n"
    for process in killed:
        process.kill()
    for process in killed:
        assert process.communicate()[0] == "", "its stage is gone too"
    assert other.communicate("\n")[0] == "to the end\n"
    assert other.returncode == 0


def test_the_caller_does_not_outlive_its_own_parent(stage, tmp_path: Path) -> None:
    stage("").communicate()
    (tmp_path / "stages" / "toy.py").write_text("import time; print('ready', flush=True); time.sleep(60)")
    command = [sys.executable, "-m", "lab.process.launch", "toy"]
    parent = f"import subprocess; subprocess.run({command})"
    with subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        started = time.monotonic()
        assert process.stdout.read() == ""
    assert time.monotonic() - started < 1


def test_the_end_of_the_warm_process_is_told(stage) -> None:
    process = stage("import os, time; print(os.getppid(), flush=True); time.sleep(60)")
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert "is gone, and the stage with it; run again" in process.communicate()[0]
    assert process.returncode == 1


def test_without_a_warm_process_the_stage_runs_by_itself(stage, tmp_path: Path) -> None:
    # The folder of the sockets belongs to somebody else, as far as this user can tell.
    taken = tmp_path / f"al-lab-{os.getuid()}"
    taken.write_text("")
    process = stage("import os; print(os.getppid())", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert process.communicate()[0] == f"{os.getpid()}\n"
    assert process.returncode == 0


def test_a_path_too_long_for_a_socket_is_no_delay(stage, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    process = stage("import os; print(os.getppid())", env={**os.environ, "TMPDIR": str(folder)})
    started = time.monotonic()
    assert process.communicate()[0] == f"{os.getpid()}\n"
    assert time.monotonic() - started < launch.SECONDS_TO_START


def test_another_environment_or_limit_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = launch.socket_path()
    assert launch.socket_path() == before
    monkeypatch.setenv("DVC_STAGE", "cycle@3")
    assert launch.socket_path() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "63")
    assert launch.socket_path() != before
    monkeypatch.undo()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else 1024, hard))
    try:
        assert launch.socket_path() != before
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
