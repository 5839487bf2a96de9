"""Azure Relay's data plane for hybrid connections.

head           the HTTP request that opens a socket, as text in and values out
front          one TCP connection until it is decided what becomes of it
authorization  who may listen, who may send
control        a listener's control channel
rendezvous     senders that wait for a listener
stream         the hot path: two joined sockets
model          namespaces, hybrid connections, rules
server         the plane: takes requests and decides
"""
