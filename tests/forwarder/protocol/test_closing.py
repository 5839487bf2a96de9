from tunnel_forwarder.protocol import closing


def test_codes_and_reasons_are_read():
    assert closing.parse(b"") == (closing.NO_CODE, "")
    assert closing.parse(b"\x03\xe8") == (1000, "")
    assert closing.parse(b"\x03\xf3target refused") == (1011, closing.TARGET_REFUSED)
    assert closing.parse(b"\x0f\xa0\xff") == (4000, "\N{REPLACEMENT CHARACTER}")
