"""The operator with a fleet of Tunnels, beside a client that only writes what has to be written."""
