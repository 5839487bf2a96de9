"""Both ends of the bridge: TCP to Azure Relay in the cluster, Azure Relay to TCP on the device."""
