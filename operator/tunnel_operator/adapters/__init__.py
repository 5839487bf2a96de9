"""The ways to Kubernetes and Azure: thin, one for each, with errors classified where they are caught."""
