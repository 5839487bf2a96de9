import os

import pytest

from tunnel_dev import procfs

TAIL = "S 1 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0"


@pytest.mark.parametrize("command", ["sleep", "a b", "(sd-pam)", "x) R (y", ""])
def test_a_command_name_may_hold_blanks_and_parentheses(command):
    stat = procfs.parse_stat(f"4243 ({command}) {TAIL}\n")

    assert stat == procfs.Stat(pid=4243, command=command, state="S", session=4242, start=987654)


@pytest.mark.parametrize(("state", "is_alive"), [("R", True), ("D", True), ("Z", False)])
def test_a_zombie_is_not_alive(state, is_alive):
    stat = procfs.parse_stat(f"1 (x) {TAIL.replace('S', state, 1)}")

    assert stat.is_alive is is_alive


def test_this_process_is_found():
    mine = procfs.read_stat(os.getpid())

    assert mine in list(procfs.processes())
    assert mine.session == os.getsid(0)
    assert not procfs.is_first_in_its_namespace(mine.pid)


def test_a_process_that_is_gone_has_no_facts():
    pid = os.posix_spawnp("true", ["true"], {})
    os.waitpid(pid, 0)

    assert procfs.read_stat(pid) is None
    assert procfs.network_namespace(pid) is None
    assert not procfs.is_first_in_its_namespace(pid)
