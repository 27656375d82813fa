"""A stage is the same, whether it is forked from its caller or from the warm process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from lab.process import ending, launch
from tests.toy_stage import ROOT, ToyStage, toy_stage, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone")

READY = "print('ready', flush=True)"
TIME = 60  # seconds that a stage would take which is ended before


@pytest.fixture
def stage() -> Iterator[ToyStage]:
    """A stage that is forked from its caller, which starts the warm process."""
    with toy_stage() as toy:
        yield toy


@pytest.fixture
def forked(stage: ToyStage) -> ToyStage:
    """A stage that is forked from the warm process."""
    stage.warm_up()
    return stage


@pytest.fixture(params=["caller", "warm process"])
def either(request: pytest.FixtureRequest, stage: ToyStage) -> ToyStage:
    """A stage that is forked from the one or the other."""
    if request.param == "warm process":
        stage.warm_up()
    return stage


def ready(process: subprocess.Popen) -> subprocess.Popen:
    assert process.stdout.readline() == "ready\n"
    return process


def test_arguments_streams_folder_environment_and_status_are_those_of_the_caller(either: ToyStage) -> None:
    process = either.start(
        "print(arguments, os.getcwd(), os.environ['DVC_STAGE'], sys.stdin.read())",
        "print('to the other stream', file=sys.stderr)",
        "raise Interrupted(5, 'as asked')",
        arguments=("a", "b c"),
        env={"DVC_STAGE": "toy"},
    )
    printed, _ = process.communicate("typed")
    assert f"('a', 'b c') {either.folder} toy typed" in printed
    assert "to the other stream" in printed
    assert process.returncode == 128 + 5


def test_stages_are_forked_from_one_process_and_run_the_code_on_disk(forked: ToyStage) -> None:
    assert [forked.run("print(origin, 'first')") for _ in range(2)] == ["warm process first\n"] * 2
    (forked.folder / "lab/host.py").write_text("class Progress:\n    pass\nclass Host:\n    changed = 'changed'\n")
    assert forked.run("print(origin, host.changed)") == "warm process changed\n"
    (warm,) = forked.warm_processes()
    wait_until(lambda: not psutil.Process(warm).children())  # nor zombies


def test_workspaces_share_the_warm_process_and_no_code(forked: ToyStage) -> None:
    with toy_stage() as other:
        other.environment = forked.environment
        (other.folder / "lab/host.py").write_text("class Progress:\n    pass\nclass Host:\n    changed = 'changed'\n")
        printed = other.run("from lab.process import workspace", "print(origin, host.changed, workspace.__file__)")
        assert printed == f"warm process changed {other.folder}/lab/process/workspace.py\n"


def test_libraries_are_loaded_before_the_stage_starts_and_cuda_is_not(stage: ToyStage) -> None:
    stage.set("LIBRARIES", launch.LIBRARIES)
    stage.warm_up()
    printed = stage.run(
        "print(*sys.modules)",
        "print(sys.modules['torch'].cuda._is_in_bad_fork(), sys.modules['torch'].cuda.is_initialized())",
        "print('\\033[31mred')",
    )
    loaded, cuda, red = printed.splitlines()
    assert set(launch.LIBRARIES) <= set(loaded.split())
    # What has started CUDA cannot fork a stage that uses it.
    assert cuda == "False False"
    # Libraries that are loaded on no terminal strip no colours of a stage that has one.
    assert red == "\033[31mred"


def test_nobody_waits_for_the_libraries(stage: ToyStage) -> None:
    os.mkfifo(stage.folder / "gate")
    (stage.folder / "slow.py").write_text(f"open('{stage.folder}/gate').read()")
    stage.set("LIBRARIES", ("slow",))
    started = [stage.start("print(origin)") for _ in range(5)]
    assert [process.communicate()[0] for process in started] == ["caller\n"] * 5
    assert len(stage.warm_processes()) == 1, "one of five that could have been started"
    (stage.folder / "gate").write_text("")
    wait_until(lambda: stage.run("print(origin)") == "warm process\n")


def test_lines_are_printed_as_they_come(either: ToyStage) -> None:
    process = either.start(
        "import select",
        "print('a line')",
        "answer, _, _ = select.select([sys.stdin], [], [], 10)",
        "print('answered' if answer else 'nobody answered')",
    )
    assert process.stdout.readline() == "a line\n"
    assert process.communicate("now that it is read\n")[0] == "answered\n"


def test_a_last_line_without_its_end_is_printed(either: ToyStage) -> None:
    assert either.run("print('no end', end='')") == "no end"


def test_refused_params_stop_the_stage(either: ToyStage) -> None:
    either.check("raise ValueError('refused:\\n  lr = 0')")
    process = either.start("print('the stage ran')")
    assert process.communicate()[0] == "refused:\n  lr = 0\n"
    assert process.returncode == 2


def test_an_error_of_the_code_is_printed_and_is_a_failure(either: ToyStage) -> None:
    process = either.start("raise ValueError('what is wrong')")
    assert "ValueError: what is wrong" in process.communicate()[0]
    assert process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_stage(either: ToyStage, number: signal.Signals) -> None:
    process = either.start(f"signal.signal({number.value}, lambda *_: os._exit(5))", READY, f"time.sleep({TIME})")
    ready(process).send_signal(number)
    assert process.wait() == 5


def test_a_stage_takes_its_time_where_every_process_is_told_to_end(either: ToyStage) -> None:
    warm = either.warm_processes()
    process = either.start(
        "host.check('')",  # from here on a signal waits until the stage asks
        "print(os.getppid(), os.getpid())",
        "input()",
        "host.check('training is kept')",
    )
    supervisor, pid = map(int, process.stdout.readline().split())
    for told in (*warm, supervisor, pid, process.pid):  # as a cluster does that cancels a job
        os.kill(told, signal.SIGTERM)
    assert process.communicate("\n")[0] == "error: stopped by SIGTERM: training is kept\n"
    assert process.returncode == 128 + signal.SIGTERM
    assert set(warm) <= set(either.warm_processes())


def test_an_interrupt_from_the_terminal_comes_once(either: ToyStage) -> None:
    process = either.start(
        "came = []",
        "signal.signal(signal.SIGINT, lambda *_: came.append(True))",
        READY,
        "while not came: time.sleep(0.01)",
        READY,
        "input()",
        "print(len(came))",
        start_new_session=True,
    )
    os.killpg(ready(process).pid, signal.SIGINT)
    assert ready(process).communicate("\n")[0] == "1\n"


def test_a_signal_ends_a_stage_that_keeps_nothing(either: ToyStage) -> None:
    process = either.start(READY, f"time.sleep({TIME})")
    ready(process).send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


def test_a_stage_that_does_not_obey_is_killed_in_the_end(stage: ToyStage) -> None:
    stage.set("SECONDS_TO_STOP", 1)
    stage.warm_up()
    process = stage.start("signal.signal(signal.SIGTERM, signal.SIG_IGN)", READY, f"time.sleep({TIME})")
    ready(process).send_signal(signal.SIGTERM)
    assert process.stdout.read() == "", "the pipe closes when the stage is gone"
    assert process.wait() == -signal.SIGALRM


def test_a_signal_that_the_caller_ignores_is_ignored(forked: ToyStage) -> None:
    def as_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    forked.warm_up(preexec_fn=as_nohup)
    process = forked.start("print(os.getpid())", "input()", "print('to the end')", preexec_fn=as_nohup)
    for pid in (int(process.stdout.readline()), process.pid):
        os.kill(pid, signal.SIGHUP)
    assert process.communicate("\n")[0] == "to the end\n"
    assert process.returncode == 0


def test_a_killed_stage_is_told_with_what_to_change(either: ToyStage) -> None:
    process = either.start("os.kill(os.getpid(), signal.SIGKILL)")
    assert process.communicate()[0] == f"error: {ending.KILLED}\n"
    assert process.returncode == -signal.SIGKILL


def test_the_stage_does_not_outlive_the_caller(either: ToyStage) -> None:
    process = either.start(READY, f"time.sleep({TIME})")
    ready(process).kill()
    started = time.monotonic()
    assert process.stdout.read() == "", "the pipe closes when the last process that holds it is gone"
    assert time.monotonic() - started < TIME / 2


def test_callers_that_are_killed_leave_another_stage_alone(forked: ToyStage) -> None:
    other = ready(forked.start(READY, "input()", "print('to the end')"))
    killed = [ready(forked.start(READY, f"time.sleep({TIME})")) for _ in range(5)]
    for process in killed:
        process.kill()
    for process in killed:
        assert process.communicate()[0] == "", "its stage is gone too"
    assert other.communicate("\n")[0] == "to the end\n"
    assert other.returncode == 0


def test_the_caller_does_not_outlive_its_own_parent(either: ToyStage) -> None:
    either.write(READY, f"time.sleep({TIME})")
    command = [sys.executable, "-m", "lab.process.launch", "toy"]
    process = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({command})"],
        cwd=either.folder,
        env=either.environment,
        text=True,
        stdout=subprocess.PIPE,
    )
    ready(process).kill()
    started = time.monotonic()
    assert process.communicate()[0] == ""
    assert time.monotonic() - started < TIME / 2


def test_a_stage_goes_on_where_the_warm_process_is_gone(forked: ToyStage) -> None:
    process = ready(forked.start(READY, "input()", "print('to the end')"))
    (warm,) = forked.warm_processes()
    os.kill(warm, signal.SIGKILL)
    forked.write("print(origin)")
    assert forked.run() == "caller\n"
    wait_until(lambda: forked.run() == "warm process\n")  # another one
    assert process.communicate("\n")[0] == "to the end\n"


def test_a_stage_that_is_lost_is_an_error(either: ToyStage) -> None:
    process = either.start("print(os.getppid())", f"time.sleep({TIME})")
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert "is gone, and the stage with it; run again" in process.communicate()[0]
    assert process.returncode == 1


def test_the_warm_process_ends_when_nobody_needs_it(stage: ToyStage) -> None:
    stage.set("SECONDS_IDLE", 0.1)
    first = ready(stage.start(READY, "input()"))
    wait_until(stage.sockets)
    time.sleep(0.3)  # in which it would end, were it not for the first stage
    second = stage.start("print(origin)", "input()")
    assert second.stdout.readline() == "warm process\n"
    first.communicate("\n")
    time.sleep(0.3)  # in which it would end, were it not for the second stage
    assert stage.sockets()
    second.communicate("\n")
    wait_until(lambda: not stage.warm_processes())
    assert not stage.sockets()


def test_the_warm_process_can_be_switched_off(forked: ToyStage) -> None:
    (warm,) = forked.warm_processes()
    assert forked.run("print(origin)", env={"AL_LAB_WARM": "off"}) == "caller\n"
    assert forked.warm_processes() == [warm]


@pytest.mark.parametrize("obstacle", ["folder of somebody else", "no folder", "long path"])
def test_where_no_warm_process_can_be_had_the_caller_forks(stage: ToyStage, obstacle: str) -> None:
    folder = stage.folder / ("long" * 25 if obstacle == "long path" else "temporary")
    folder.mkdir()
    sockets = folder / f"al-lab-{os.getuid()}"
    if obstacle == "folder of somebody else":
        if os.getuid() != 0:
            pytest.skip("only root can give a folder to somebody else")
        sockets.mkdir()
        os.chown(sockets, 1, 1)
    elif obstacle == "no folder":
        sockets.write_text("")
    process = stage.start("print(origin)", env={"TMPDIR": str(folder)})
    assert process.communicate()[0] == "caller\n"
    assert process.returncode == 0
    assert stage.warm_processes() == []


def test_what_a_forked_stage_inherits_names_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    before = launch._name_of_all_that_is_inherited()
    assert launch._name_of_all_that_is_inherited() == before
    monkeypatch.setenv("DVC_STAGE", "cycle@3")
    assert launch._name_of_all_that_is_inherited() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "63")
    assert launch._name_of_all_that_is_inherited() != before
    monkeypatch.undo()
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, list(processors)[:1])
    try:
        assert (launch._name_of_all_that_is_inherited() != before) == (len(processors) > 1)
    finally:
        os.sched_setaffinity(0, processors)


def test_stages_that_compute_nothing_on_tensors_do_not_load_pytorch() -> None:
    names = {path.stem for path in ROOT.glob("stages/*.py")} - {"cycle", "network"}
    code = (
        "import importlib, sys, lab.process.stage\nfor name in sys.argv[1:]: importlib.import_module(f'stages.{name}')"
    )
    command = [sys.executable, "-c", f"{code}\nprint('torch' in sys.modules)", *names]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "False\n"
