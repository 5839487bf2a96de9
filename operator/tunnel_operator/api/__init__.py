"""The resources that people write and read: Tunnel and TunnelClass, and the words of their status."""
