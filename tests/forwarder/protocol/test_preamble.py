import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.preamble import (
    Mode,
    PortRequest,
    Refusal,
    ReplyReader,
    RequestReader,
    acceptance,
)

NAMES = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda s: len(s.encode()) <= 255)


def chunks(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def feed(reader, parts):
    answers, rest = [], b""
    for part in parts:
        if answers:
            rest += part
        elif (answer := reader.feed(part)) is not None:
            answers.append(answer[0])
            rest = answer[1]
    return answers, rest


def test_the_preamble_for_test_is_azbridges():
    assert PortRequest("test").to_messages() == (b"\x01\x00\x00\x04", b"test")
    assert acceptance(Mode.STREAM) == b"\x01\x00\x00"
    assert acceptance(Mode.DATAGRAM) == b"\x01\x00\x01"


@given(NAMES, st.sampled_from(Mode), st.binary(), st.lists(st.integers(0, 600)))
def test_requests_are_read_back_however_they_are_cut(name, mode, following, cuts):
    request = PortRequest(name, mode)
    data = b"".join(request.to_messages()) + following
    assert feed(RequestReader(), chunks(data, cuts)) == ([request], following)


@given(st.sampled_from(Mode), st.binary(), st.lists(st.integers(0, 40)))
def test_acceptances_are_read_however_they_are_cut(mode, following, cuts):
    data = acceptance(mode) + following
    assert feed(ReplyReader(mode), chunks(data, cuts)) == ([None], following)


@pytest.mark.parametrize("refusal", Refusal)
def test_refusals_are_told_apart(refusal):
    assert ReplyReader().feed(refusal.value) == (refusal, b"")


@given(st.binary())
def test_any_bytes_are_a_request_or_refused(data):
    reader = RequestReader()
    try:
        for index in range(len(data)):
            if reader.feed(data[index : index + 1]) is not None:
                break
    except ProtocolError:
        return
    assert len(reader._buffer) <= 259


@given(st.binary(min_size=3))
def test_any_bytes_are_a_reply_or_refused(data):
    try:
        assert ReplyReader().feed(data) is not None
    except ProtocolError as error:
        assert "00" in str(error) or data[:3] != acceptance(Mode.STREAM)  # noqa: PT017


@pytest.mark.parametrize("name", ["", "x" * 256, "ä" * 128, "\ud800"])
def test_names_that_can_not_be_sent_are_refused(name):
    with pytest.raises(ProtocolError):
        PortRequest(name).to_messages()


@pytest.mark.parametrize(
    "data", [b"\x02", b"\x01\x01", b"\x01\x00\x02", b"\x01\x00\x00\x00", b"\x01\x00\x00\x01\xff"]
)
def test_other_preambles_are_refused_at_the_first_wrong_byte(data):
    with pytest.raises(ProtocolError):
        RequestReader().feed(data)
