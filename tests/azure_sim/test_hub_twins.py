"""Device twins: merging and its limits, then on the wire, over REST, and over a restart."""

import json
import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.raw_hub import text
from tunnel_azure_sim.hub.errors import Code, HubError
from tunnel_azure_sim.hub.twins import MAX_PROPERTIES, Properties, Twin

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAMES = st.text("abcde", min_size=1, max_size=2)
VALUES = st.recursive(
    st.integers() | st.text("xyz") | st.booleans(),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)
SECTIONS = st.dictionaries(NAMES, VALUES, max_size=4)


@given(SECTIONS, SECTIONS)
def test_a_patch_leaves_what_it_does_not_name(first, second):
    section = Properties()
    section.change(first, NOW, replace=True)
    section.change(second, NOW)
    assert section.version == 3
    for name, value in first.items():
        if name not in second:
            assert section.values[name] == value
    for name in second:
        section.change({name: None}, NOW)
    assert section.values == {name: one for name, one in first.items() if name not in second}


@pytest.mark.parametrize("payload", [
    b"", b"[]", b"{", b"[" * 100_000, b'{"a.b": 1}', b'{"$a": 1}', b'{"a b": 1}', b'{"": 1}',
    b'{"a": {"b\\u0000": 1}}', b'{"a": [{"b.c": 1}]}', b'{"a": NaN}',
    json.dumps({"a": "x" * MAX_PROPERTIES}).encode(),
    b'{"a":' * 11 + b"1" + b"}" * 11,
])  # fmt: skip
def test_what_a_device_may_not_report_changes_nothing(payload):
    twin = Twin()
    with pytest.raises(HubError) as raised:
        twin.report(payload, NOW)
    assert raised.value.code is Code.ArgumentInvalid
    assert (twin.reported.values, twin.reported.version, twin.version) == ({}, 1, 1)


def test_a_service_changes_what_it_names_or_replaces_everything():
    twin = Twin()
    body = {"tags": {"site": "a"}, "properties": {"desired": {"x": 1, "$version": 9}}}
    assert twin.change(body, None, NOW, replace=False) == {"x": 1}
    assert twin.change({"tags": {"bed": 7}}, twin.etag, NOW, replace=False) is None
    assert (twin.tags, twin.desired.values) == ({"site": "a", "bed": 7}, {"x": 1})
    with pytest.raises(HubError) as raised:
        twin.change({"tags": {"bed": 8}}, "stale", NOW, replace=False)
    assert raised.value.code is Code.PreconditionFailed
    # Nothing of a change is kept when a part of it is refused.
    for refused in ({"tags": {"a": {}}, "properties": {"desired": {"b.c": 1}}}, {"tags": []}):
        with pytest.raises(HubError):
            twin.change(refused, None, NOW, replace=False)
    assert (twin.tags, twin.desired.values) == ({"site": "a", "bed": 7}, {"x": 1})
    assert twin.change({}, None, NOW, replace=True) == {}
    assert (twin.tags, twin.desired.values, twin.desired.version) == ({}, {}, 3)


async def published(client):
    first, body = await client.receive()
    assert first == 0x30
    size = struct.unpack("!H", body[:2])[0]
    return body[2 : 2 + size].decode(), json.loads(body[2 + size :] or b"null")


async def subscribe(client, *filters):
    client.send(0x82, b"\x00\x01" + b"".join(text(name) + b"\x00" for name in filters))
    assert await client.receive() == (0x90, b"\x00\x01" + b"\x00" * len(filters))


async def test_twin_on_the_wire(mqtt, rest):
    client = await mqtt.connected()
    await subscribe(client, "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#")
    client.send(0x30, text("$iothub/twin/GET/?$rid=a1"))
    assert await published(client) == (
        "$iothub/twin/res/200/?$rid=a1",
        {"desired": {"$version": 1}, "reported": {"$version": 1}},
    )
    client.send(0x30, text("$iothub/twin/PATCH/properties/reported/?$rid=a2") + b'{"a": 1}')
    assert await published(client) == ("$iothub/twin/res/204/?$rid=a2&$version=2", None)
    client.send(0x30, text("$iothub/twin/PATCH/properties/reported/?$rid=a3") + b"nonsense")
    assert await published(client) == ("$iothub/twin/res/400/?$rid=a3", None)
    wish = {"properties": {"desired": {"b": {"c": 2}}}}
    status, _, twin = await rest.call("PATCH", "/twins/mri-7", json=wish)
    assert (status, twin["properties"]["reported"]["a"]) == (200, 1)
    assert await published(client) == (
        "$iothub/twin/PATCH/properties/desired/?$version=2",
        {"b": {"c": 2}, "$version": 2},
    )
    client.send(0xA2, b"\x00\x08" + text("$iothub/twin/PATCH/properties/desired/#"))
    assert await client.receive() == (0xB0, b"\x00\x08")
    await rest.call("PUT", "/twins/mri-7", json={"properties": {"desired": {"d": 3}}})
    client.send(0x30, text("$iothub/twin/GET/?$rid=a4"))
    assert (await published(client))[1]["desired"] == {"d": 3, "$version": 3}


async def test_desired_properties_of_a_device_that_is_away_wait_for_it(mqtt, rest):
    wish = {"properties": {"desired": {"x": 1}}, "tags": {"site": "a"}}
    assert (await rest.call("PATCH", "/twins/mri-7", json=wish))[0] == 200
    assert (await rest.error("PATCH", "/twins/nobody", json=wish))[0] == 404001
    stale = {"If-Match": '"stale"'}
    assert (await rest.error("PATCH", "/twins/mri-7", json=wish, headers=stale))[0] == 412001
    client = await mqtt.connected()
    await subscribe(client, "$iothub/twin/res/#")
    client.send(0x30, text("$iothub/twin/GET/?$rid=1"))
    assert (await published(client))[1]["desired"] == {"x": 1, "$version": 2}
