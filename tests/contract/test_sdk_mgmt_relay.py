"""azure-mgmt-relay (aio), unmodified, with a workload identity, against ARM."""

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.identity.aio import WorkloadIdentityCredential
from azure.mgmt.relay.aio import RelayAPIMgmtClient
from azure.mgmt.relay.models import (
    AuthorizationRule,
    HybridConnection,
    RegenerateAccessKeyParameters,
)

GROUP, NAMESPACE = "demo", "demo"


def make_client(sim, credential):
    return RelayAPIMgmtClient(
        credential,
        sim.endpoints.subscription_id,
        base_url=sim.endpoints.arm_base_url,
        credential_scopes=["https://management.azure.com/.default"],
        connection_verify=str(sim.endpoints.ca_file),
        retry_total=0,
    )


def make_credential(sim):
    return WorkloadIdentityCredential(connection_verify=str(sim.endpoints.ca_file))


@pytest.fixture
async def client(sim, workload):  # noqa: ARG001 - the SDK finds it in the environment
    async with make_credential(sim) as credential, make_client(sim, credential) as made:
        yield made


async def test_hybrid_connection_is_created_read_changed_and_deleted(client, sim):
    connections = client.hybrid_connections
    wanted = HybridConnection(
        user_metadata="tunnel imaging/mri-7", requires_client_authorization=True
    )
    created = await connections.create_or_update(GROUP, NAMESPACE, "mri-7-abc", wanted)
    assert created.name == "mri-7-abc"
    assert created.user_metadata == "tunnel imaging/mri-7"
    assert created.requires_client_authorization is True
    assert created.listener_count == 0
    assert created.id.endswith("/namespaces/demo/hybridConnections/mri-7-abc")

    changed = await connections.create_or_update(
        GROUP, NAMESPACE, "mri-7-abc", HybridConnection(user_metadata="other")
    )
    read = await connections.get(GROUP, NAMESPACE, "mri-7-abc")
    assert read.user_metadata == changed.user_metadata == "other"
    assert read.created_at == created.created_at
    assert read.updated_at >= created.updated_at

    await connections.delete(GROUP, NAMESPACE, "mri-7-abc")
    assert sim.hybrid_connections() == {}
    with pytest.raises(ResourceNotFoundError) as error:
        await connections.get(GROUP, NAMESPACE, "mri-7-abc")
    assert error.value.error.code == "ResourceNotFound"
    await connections.delete(GROUP, NAMESPACE, "mri-7-abc")
    assert sim.arm_counts() == {"PUT": 2, "GET": 2, "DELETE": 2}


@pytest.mark.parametrize("page_size", [2], indirect=True)
async def test_listing_follows_the_pages(client, sim):
    names = [f"hc-{number}" for number in range(5)]
    for name in names:
        await client.hybrid_connections.create_or_update(GROUP, NAMESPACE, name, HybridConnection())
    pages = client.hybrid_connections.list_by_namespace(GROUP, NAMESPACE)
    assert [one.name async for one in pages] == names
    assert sim.arm_counts()["GET"] == 3


async def test_rules_and_keys_of_a_hybrid_connection(client):
    connections = client.hybrid_connections
    await connections.create_or_update(GROUP, NAMESPACE, "hc", HybridConnection())
    await connections.create_or_update_authorization_rule(
        GROUP, NAMESPACE, "hc", "send", AuthorizationRule(rights=["Send"])
    )
    rule = await connections.get_authorization_rule(GROUP, NAMESPACE, "hc", "send")
    assert rule.rights == ["Send"]
    listed = [
        one.name async for one in connections.list_authorization_rules(GROUP, NAMESPACE, "hc")
    ]
    assert listed == ["send"]

    keys = await connections.list_keys(GROUP, NAMESPACE, "hc", "send")
    assert keys.key_name == "send"
    assert keys.primary_connection_string.endswith(
        f"SharedAccessKey={keys.primary_key};EntityPath=hc"
    )
    renewed = await connections.regenerate_keys(
        GROUP, NAMESPACE, "hc", "send", RegenerateAccessKeyParameters(key_type="PrimaryKey")
    )
    assert renewed.primary_key != keys.primary_key
    assert renewed.secondary_key == keys.secondary_key

    await connections.delete_authorization_rule(GROUP, NAMESPACE, "hc", "send")
    with pytest.raises(ResourceNotFoundError):
        await connections.get_authorization_rule(GROUP, NAMESPACE, "hc", "send")


async def test_rules_and_keys_of_a_namespace(client, sim):
    namespaces = client.namespaces
    await namespaces.create_or_update_authorization_rule(
        GROUP, NAMESPACE, "both", AuthorizationRule(rights=["Listen", "Send"])
    )
    listed = {one.name async for one in namespaces.list_authorization_rules(GROUP, NAMESPACE)}
    assert listed == {"RootManageSharedAccessKey", "both"}
    keys = await namespaces.list_keys(GROUP, NAMESPACE, "RootManageSharedAccessKey")
    assert keys.primary_connection_string == sim.endpoints.relay[0].root_connection_string.reveal()
    renewed = await namespaces.regenerate_keys(
        GROUP, NAMESPACE, "both", RegenerateAccessKeyParameters(key_type="SecondaryKey")
    )
    assert renewed.key_name == "both"
    await namespaces.delete_authorization_rule(GROUP, NAMESPACE, "both")


async def test_namespace_is_found(client, sim):
    found = await client.namespaces.get(GROUP, NAMESPACE)
    assert found.provisioning_state == "Succeeded"
    assert found.service_bus_endpoint == sim.endpoints.relay[0].endpoint.replace("sb:", "https:")
    listed = [one.name async for one in client.namespaces.list_by_resource_group(GROUP)]
    assert listed == [NAMESPACE]


async def test_unknown_parents_are_not_found(client):
    for group, namespace, code in (
        ("demo", "other", "ParentResourceNotFound"),
        ("other", "demo", "ResourceGroupNotFound"),
    ):
        with pytest.raises(ResourceNotFoundError) as error:
            await client.hybrid_connections.get(group, namespace, "hc")
        assert error.value.error.code == code
    with pytest.raises(ResourceNotFoundError) as error:
        await client.hybrid_connections.list_keys(GROUP, NAMESPACE, "none", "send")
    assert error.value.error.code == "ParentResourceNotFound"


async def test_thirteenth_rule_is_refused(client):
    await client.hybrid_connections.create_or_update(GROUP, NAMESPACE, "hc", HybridConnection())
    rule = AuthorizationRule(rights=["Send"])
    for number in range(12):
        await client.hybrid_connections.create_or_update_authorization_rule(
            GROUP, NAMESPACE, "hc", f"rule-{number}", rule
        )
    with pytest.raises(HttpResponseError) as error:
        await client.hybrid_connections.create_or_update_authorization_rule(
            GROUP, NAMESPACE, "hc", "one-too-many", rule
        )
    assert error.value.error.code == "QuotaExceeded"


@pytest.mark.usefixtures("workload")
async def test_token_for_another_audience_is_refused(sim):
    async with make_credential(sim) as credential:
        client = RelayAPIMgmtClient(
            credential,
            sim.endpoints.subscription_id,
            base_url=sim.endpoints.arm_base_url,
            credential_scopes=["https://relay.azure.net/.default"],
            connection_verify=str(sim.endpoints.ca_file),
        )
        async with client:
            with pytest.raises(ClientAuthenticationError):
                await client.hybrid_connections.get(GROUP, NAMESPACE, "hc")
