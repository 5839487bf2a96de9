import pytest

from tunnel_operator.adapters.marks import Mark, read_mark, write_mark


def test_a_mark_is_read_as_it_was_written():
    text = write_mark("imaging/mri-7", "uid", "cluster-1")
    assert read_mark(text) == Mark("imaging/mri-7", "uid", "cluster-1")


@pytest.mark.parametrize(
    "text",
    [None, "", "their own words", "[]", "{}", '{"owner": "somebody"}', '{"owner": "tunnels.dev"}'],
)
def test_what_others_wrote_is_no_mark(text):
    assert read_mark(text) is None
