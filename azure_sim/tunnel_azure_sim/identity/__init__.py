"""Entra ID, as far as applications and workloads need it: credentials in, access tokens out.

errors       why a token or a request is refused
tokens       access tokens, issued and verified
assertion    the assertions of workload identity federation
client       the application's secret, or an assertion in its place
discovery    OpenID documents and keys
managed      a managed identity, as App Service has it
service      the plane; no HTTP of its own
server       the plane over HTTPS
wiring       the plane from its configuration
"""
