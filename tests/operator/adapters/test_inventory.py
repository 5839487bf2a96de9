from tunnel_operator.adapters.inventory import PAGE, KubeInventory
from tunnel_operator.core.observed import Kind


class Pages:
    """An API server that lists one object a page."""

    def __init__(self, **collections):
        self.collections = {path.replace("_", "/"): names for path, names in collections.items()}
        self.asked = []

    async def request(self, method, path, *, query):
        assert method == "GET"
        self.asked.append((path, query.get("labelSelector")))
        assert query["limit"] == str(PAGE)
        names = self.collections[path.removeprefix("/")]
        at = int(query.get("continue", 0))
        more = str(at + 1) if at + 1 < len(names) else ""
        items = [{"metadata": {"name": name}} for name in names[at : at + 1]]
        return {"metadata": {"continue": more}, "items": items}


async def listed(bodies):
    return [body async for body in bodies]


async def test_lists_all_pages_and_names_the_kind():
    api = Pages(api_v1_pods=["a", "b", "c"])
    found = await listed(KubeInventory(api, (), with_classes=True).children(Kind.POD))
    assert [body["metadata"]["name"] for body in found] == ["a", "b", "c"]
    assert {body["kind"] for body in found} == {"Pod"}
    assert set(api.asked) == {("/api/v1/pods", "app.kubernetes.io/managed-by=tunnel-operator")}


async def test_lists_the_namespaces_that_are_watched_and_no_others():
    api = Pages()
    api.collections = {
        f"apis/tunnels.dev/v1alpha1/namespaces/{name}/tunnels": [name] for name in ("one", "two")
    }
    found = await listed(KubeInventory(api, ("one", "two"), with_classes=False).tunnels())
    assert [body["metadata"]["name"] for body in found] == ["one", "two"]


async def test_holds_one_page_at_a_time():
    api = Pages(api_v1_pods=["a", "b", "c"])
    bodies = KubeInventory(api, (), with_classes=True).children(Kind.POD)
    assert (await anext(bodies))["metadata"]["name"] == "a"
    assert len(api.asked) == 1
    await bodies.aclose()


async def test_classes_of_a_file_are_not_the_clusters():
    inventory = KubeInventory(Pages(), (), with_classes=False)
    assert await inventory.classes() is None
    assert await inventory.namespaces() is None


async def test_routes_are_listed_where_they_are_served():
    api = Pages()
    api.collections = {"apis/gateway.networking.k8s.io/v1/httproutes": ["a"]}
    routes = {Kind.HTTP_ROUTE: "gateway.networking.k8s.io/v1"}
    inventory = KubeInventory(api, (), with_classes=False, routes=routes)
    assert Kind.HTTP_ROUTE in inventory.kinds
    assert Kind.TCP_ROUTE not in inventory.kinds
    [found] = await listed(inventory.children(Kind.HTTP_ROUTE))
    assert found["kind"] == "HTTPRoute"
