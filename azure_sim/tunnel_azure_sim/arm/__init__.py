"""Azure Resource Manager, as far as Microsoft.Relay's hybrid connections, rules and keys need it.

errors     {"error": {"code", "message"}}
resource   a request's path, read
rendering  resources as JSON
rules      authorization rules and keys, of a namespace or a hybrid connection
service    what each verb does to each kind of resource; no I/O
server     HTTPS, the bearer token, the journal
"""
