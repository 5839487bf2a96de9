import pytest

from tunnel_operator.adapters.marks import Mark, read_mark, write_mark


def test_a_mark_is_read_as_it_was_written():
    for is_retained in (False, True):
        mark = Mark("imaging/mri-7", "uid", "cluster-1", "correlation", is_retained)
        assert read_mark(write_mark(mark)) == mark


def test_a_mark_of_before_there_was_more_in_it_is_one():
    text = '{"owner": "tunnels.dev", "tunnel": "imaging/mri-7", "uid": "uid", "cluster": "here"}'
    assert read_mark(text) == Mark("imaging/mri-7", "uid", "here", "", is_retained=False)


@pytest.mark.parametrize(
    "text",
    [None, "", "their own words", "[]", "{}", '{"owner": "somebody"}', '{"owner": "tunnels.dev"}'],
)
def test_what_others_wrote_is_no_mark(text):
    assert read_mark(text) is None
