"""A chosen configuration as Dynamo manifests and engine settings."""

from aiconf.deploy.write import write_deployment

__all__ = ["write_deployment"]
