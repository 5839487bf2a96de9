"""Manages tunnels to edge devices, declared as Kubernetes resources."""
