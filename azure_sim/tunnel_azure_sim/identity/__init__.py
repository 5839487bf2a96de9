"""Entra ID, as far as workload identity needs it: assertions in, access tokens out."""
