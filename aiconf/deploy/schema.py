"""Typed models of what is emitted: the part of DynamoGraphDeployment v1beta1 that aiconf uses.

Field names are Kubernetes' own; every model refuses unknown fields. Structure after the
CustomResourceDefinition nvidia.com/v1beta1 of Dynamo 1.5 and the rules of its admission webhook.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from aiconf.deploy.names import (
    COMBINED_NAME_LIMIT,
    EXTENDED_RESOURCE,
    REFERENCE,
    REFERENCE_LIMIT,
    SUBDOMAIN,
    pod_name_length,
)

Subdomain = Annotated[str, StringConstraints(pattern=SUBDOMAIN, max_length=63)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE, max_length=REFERENCE_LIMIT)]
ResourceName = Annotated[str, StringConstraints(pattern=EXTENDED_RESOURCE)]
Quantity = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(Gi|Ti)$")]
ComponentName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$", max_length=63)
]
# repository:X.Y.Z, since the operator reads the runtime's version off the tag.
Image = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9][-a-z0-9._/:]*:v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
        r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
    ),
]


class Model(BaseModel):
    """Base: unknown fields are refused, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def document(self) -> dict[str, Any]:
        """Return plain data, without fields that are not set."""
        return self.model_dump(exclude_none=True)


class Metadata(Model):
    """Name of an object, and what its controller is told beside its fields."""

    name: Subdomain
    annotations: dict[str, str] | None = None


class NamedReference(Model):
    """Reference by name."""

    name: Reference


class EnvFrom(Model):
    """All keys of a secret as environment variables."""

    secretRef: NamedReference


class EnvVar(Model):
    """One environment variable."""

    name: str
    value: str


class Resources(Model):
    """What a container may use, and what its node must have; GPUs are counted per pod."""

    limits: dict[ResourceName, str]
    requests: dict[Literal["memory", "ephemeral-storage"], Quantity] | None = None
    claims: list[NamedReference] | None = None


class VolumeMount(Model):
    """Where a volume appears in the container."""

    name: Subdomain
    mountPath: str
    readOnly: bool | None = None


class ClaimSource(Model):
    """A persistent volume claim."""

    claimName: Reference


class Volume(Model):
    """A ConfigMap or a persistent volume claim."""

    name: Subdomain
    configMap: NamedReference | None = None
    persistentVolumeClaim: ClaimSource | None = None


class Capabilities(Model):
    """Linux capabilities added to a container."""

    add: list[str]


class SecurityContext(Model):
    """Security settings of a container."""

    capabilities: Capabilities


class Container(Model):
    """The container that Dynamo calls ``main``."""

    name: Literal["main"] = "main"
    image: Image
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[EnvVar] | None = None
    envFrom: list[EnvFrom] | None = None
    resources: Resources | None = None
    volumeMounts: list[VolumeMount] | None = None
    securityContext: SecurityContext | None = None


class ResourceClaim(Model):
    """A claim made for the pod from a template."""

    name: Subdomain
    resourceClaimTemplateName: Subdomain


class NodeLabel(Model):
    """A label of nodes and the values of it that will do."""

    key: str
    operator: Literal["In"] = "In"
    values: list[str] = Field(min_length=1)


class NodeTerm(Model):
    """Labels that a node must have, all of them."""

    matchExpressions: list[NodeLabel]


class NodeTerms(Model):
    """Terms of which a node must meet one."""

    nodeSelectorTerms: list[NodeTerm]


class NodeAffinity(Model):
    """Which nodes a pod may be put on."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeTerms


class Affinity(Model):
    """Where a pod may be put."""

    nodeAffinity: NodeAffinity


class PodSpec(Model):
    """The pod of a component."""

    affinity: Affinity | None = None
    containers: list[Container]
    volumes: list[Volume] | None = None
    resourceClaims: list[ResourceClaim] | None = None


class PodTemplate(Model):
    """What Kubernetes calls a pod template."""

    spec: PodSpec


class Multinode(Model):
    """A worker that spans several nodes: as many pods as nodes."""

    nodeCount: int = Field(ge=2)


class Component(Model):
    """One kind of process and how many of it run."""

    name: ComponentName
    type: Literal["frontend", "worker", "prefill", "decode", "planner", "epp"]
    replicas: int = Field(ge=0)
    multinode: Multinode | None = None
    podTemplate: PodTemplate


class GraphSpec(Model):
    """Components of one deployment."""

    backendFramework: Literal["vllm", "sglang", "trtllm"]
    components: list[Component] = Field(min_length=1, max_length=25)


class GraphDeployment(Model):
    """DynamoGraphDeployment v1beta1."""

    apiVersion: Literal["nvidia.com/v1beta1"] = "nvidia.com/v1beta1"
    kind: Literal["DynamoGraphDeployment"] = "DynamoGraphDeployment"
    metadata: Metadata
    spec: GraphSpec

    @model_validator(mode="after")
    def _names_fit(self) -> GraphDeployment:
        names = [component.name for component in self.spec.components]
        check_names(
            self.metadata.name, names, [bool(one.multinode) for one in self.spec.components]
        )
        return self


def check_names(graph: str, components: list[str], multinode: list[bool]) -> None:
    """Refuse, by a ``ValueError``, names that collide or from which Grove makes too long ones."""
    lower = [name.lower() for name in components]
    if len(set(lower)) != len(lower):
        raise ValueError("component names must be unique")
    for name, spread in zip(components, multinode, strict=True):
        length = pod_name_length(graph, name, spread)
        if length > COMBINED_NAME_LIMIT:
            raise ValueError(
                f"{graph} and {name} make pod names of {length} characters; "
                f"{COMBINED_NAME_LIMIT} is the most"
            )


class ConfigMap(Model):
    """Text files for containers."""

    apiVersion: Literal["v1"] = "v1"
    kind: Literal["ConfigMap"] = "ConfigMap"
    metadata: Metadata
    data: dict[str, str]


class ClaimTemplate(Model):
    """Name of the claim template that a compute domain makes."""

    resourceClaimTemplate: NamedReference


class ComputeDomainSpec(Model):
    """``numNodes`` 0: the domain grows with the pods that claim it."""

    numNodes: int = 0
    channel: ClaimTemplate


class ComputeDomain(Model):
    """NVLink across nodes (NVL72): pods that hold its claim may map each other's memory."""

    apiVersion: Literal["resource.nvidia.com/v1beta1"] = "resource.nvidia.com/v1beta1"
    kind: Literal["ComputeDomain"] = "ComputeDomain"
    metadata: Metadata
    spec: ComputeDomainSpec
