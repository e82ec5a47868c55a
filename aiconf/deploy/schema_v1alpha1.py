"""Typed models of DynamoGraphDeployment v1alpha1: the part that aiconf uses.

Operators up to Dynamo 1.1 know only this version. Structure after the CustomResourceDefinition
nvidia.com/v1alpha1 of Dynamo 1.0; what it shares with v1beta1 is in ``schema``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aiconf.deploy.schema import (
    Affinity,
    ComponentName,
    EnvVar,
    Image,
    Metadata,
    Model,
    Multinode,
    NamedReference,
    Quantity,
    Reference,
    ResourceClaim,
    ResourceName,
    SecurityContext,
    Volume,
    VolumeMount,
    check_names,
)


class Limits(Model):
    """What each pod of a service may use; ``gpu`` stands for ``nvidia.com/gpu``."""

    gpu: str | None = None
    custom: dict[ResourceName, str] | None = None


class Requests(Model):
    """What the node of each pod of a service must have."""

    memory: Quantity
    custom: dict[Literal["ephemeral-storage"], Quantity] | None = None


class Resources(Model):
    """Limits, requests and claims of each pod of a service."""

    limits: Limits
    requests: Requests | None = None
    claims: list[NamedReference] | None = None


class MainContainer(Model):
    """The container that the operator completes."""

    image: Image
    command: list[str] | None = None
    args: list[str] | None = None
    volumeMounts: list[VolumeMount] | None = None
    securityContext: SecurityContext | None = None


class ExtraPodSpec(Model):
    """A pod specification around the main container."""

    affinity: Affinity | None = None
    mainContainer: MainContainer
    volumes: list[Volume] | None = None
    resourceClaims: list[ResourceClaim] | None = None


class Service(Model):
    """One kind of process and how many of it run."""

    componentType: Literal["frontend", "worker", "planner"]
    subComponentType: Literal["prefill", "decode"] | None = None
    replicas: int = Field(ge=0)
    multinode: Multinode | None = None
    resources: Resources | None = None
    envs: list[EnvVar] | None = None
    envFromSecret: Reference | None = None
    extraPodSpec: ExtraPodSpec


class GraphSpec(Model):
    """Services of one deployment."""

    backendFramework: Literal["vllm", "sglang", "trtllm"]
    services: dict[ComponentName, Service] = Field(min_length=1, max_length=25)


class GraphDeployment(Model):
    """DynamoGraphDeployment v1alpha1."""

    apiVersion: Literal["nvidia.com/v1alpha1"] = "nvidia.com/v1alpha1"
    kind: Literal["DynamoGraphDeployment"] = "DynamoGraphDeployment"
    metadata: Metadata
    spec: GraphSpec

    @model_validator(mode="after")
    def _names_fit(self) -> GraphDeployment:
        services = self.spec.services
        multinode = [bool(service.multinode) for service in services.values()]
        check_names(self.metadata.name, list(services), multinode)
        return self
