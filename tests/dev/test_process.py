import os
import signal
import subprocess
from dataclasses import replace

import pytest

from tunnel_dev.errors import DevError
from tunnel_dev.process import Service, recorded, sessions_of, stop_recorded
from tunnel_dev.procfs import parse_stat, read_stat
from tunnel_dev.waiting import wait_until

SLEEP = ("sleep", "600")


@pytest.fixture
def service(tmp_path):
    def make(*argv, name="thing", **options):
        return Service(tree=tmp_path, name=name, argv=argv or SLEEP, **options)

    yield make
    stop_recorded(recorded(tmp_path), grace_s=0)


def forge_record(service, stat):
    """Write the record that a process with this pid and start time would have written."""
    zeros = " ".join(["0"] * 15)
    line = f"{stat.pid} ({stat.command}) S 1 {stat.pid} {stat.session} {zeros} {stat.start} 0\n"
    service.record.parent.mkdir(parents=True, exist_ok=True)
    service.record.write_text(line)


def test_it_starts_once_in_a_session_of_its_own(service):
    first = service()
    first.start()
    leader = first.leader()
    first.start()

    assert first.leader() == leader
    assert leader.session == leader.pid != os.getsid(0)


def test_another_command_finds_it_by_its_name_alone(service):
    service().start()

    found = service("not", "the", "same")

    assert found.is_running()
    found.stop()
    assert not service().is_running()
    assert not found.record.exists()


def test_stopping_what_does_not_run_is_no_error(service):
    service().stop()
    service().start()
    os.kill(service().leader().pid, signal.SIGKILL)
    wait_until(lambda: not service().is_running(), seconds=5, what="it survived")

    service().stop()

    assert recorded(service().tree) == []


def test_a_pid_that_was_given_to_another_process_is_left_alone(service):
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        theirs = read_stat(stranger.pid)
        ours = service()
        forge_record(ours, replace(theirs, start=theirs.start - 1))

        assert not ours.is_running()
        ours.stop()

        assert stranger.poll() is None
        forge_record(ours, theirs)
        assert ours.is_running()
        stranger.kill()


def test_a_record_that_was_never_finished_stands_for_nothing(service):
    unfinished = service()
    unfinished.record.parent.mkdir(parents=True)
    unfinished.record.write_text("12")

    assert not unfinished.is_running()
    unfinished.stop()
    assert recorded(unfinished.tree) == []


def test_children_that_outlived_it_are_ended_before_it_starts_again(service):
    parent = service("sh", "-c", "sleep 600 & exec true")
    parent.start()
    leader = parse_stat(parent.record.read_text())
    wait_until(lambda: not parent.is_running(), seconds=5, what="the parent stays")
    assert [child.command for child in sessions_of([leader])] == ["sleep"]

    parent.start()

    assert sessions_of([leader]) == []


def test_what_ignores_the_request_is_killed(service):
    stubborn = service("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    stubborn.start()
    stubborn.wait_until_ready(lambda: "deaf" in stubborn.log.read_text(), seconds=5)

    stubborn.stop(grace_s=0.1)

    assert not stubborn.is_running()


def test_an_early_end_shows_the_last_lines_of_the_log(service):
    failing = service("sh", "-c", "echo first; echo the reason >&2; exit 3")
    failing.start()

    with pytest.raises(DevError, match=r"'thing' ended before it was ready\.(?s:.*)the reason"):
        failing.wait_until_ready(lambda: False, seconds=5)


def test_a_deadline_shows_the_last_lines_of_the_log(service):
    slow = service("sh", "-c", "echo still at it; exec sleep 600")
    slow.start()
    wait_until(lambda: "still" in slow.log.read_text(), seconds=5, what="nothing was logged")

    with pytest.raises(DevError, match=r"not ready after 0\.1 s\.(?s:.*)still at it"):
        slow.wait_until_ready(lambda: False, seconds=0.1)


def test_a_missing_program_is_said_in_the_log(service):
    missing = service("no-such-program")
    missing.start()

    with pytest.raises(DevError, match="no-such-program"):
        missing.wait_until_ready(lambda: False, seconds=5)


def test_the_environment_is_the_callers_and_its_own(service, monkeypatch):
    monkeypatch.setenv("FROM_CALLER", "one")
    printing = service("sh", "-c", "echo $FROM_CALLER $OWN; exec sleep 600", env={"OWN": "two"})
    printing.start()

    printing.wait_until_ready(lambda: printing.log.read_text() == "one two\n", seconds=5)


def test_the_signals_that_python_ignores_are_not_ignored(service):
    plain = service("sh", "-c", "grep SigIgn /proc/$$/status; exec sleep 600")
    plain.start()
    plain.wait_until_ready(lambda: plain.log.read_text().endswith("\n"), seconds=5)

    ignored = int(plain.log.read_text().split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def test_a_new_start_begins_a_new_log(service):
    for word in ("one", "two"):
        echo = service("sh", "-c", f"echo {word}; exec sleep 600")
        echo.start()
        echo.wait_until_ready(echo.log.read_text, seconds=5)
        echo.stop()

    assert echo.log.read_text() == "two\n"
