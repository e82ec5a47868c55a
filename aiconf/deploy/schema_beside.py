"""Typed models of what is written beside the graph: Jobs, a volume claim, a deployment request.

Field names are Kubernetes' own. DynamoGraphDeploymentRequest after the CustomResourceDefinition
nvidia.com/v1beta1 of Dynamo 1.5; the GPU names are those that it takes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aiconf.deploy.schema import (
    EnvFrom,
    EnvVar,
    Image,
    Metadata,
    Model,
    Quantity,
    Reference,
    Volume,
    VolumeMount,
)


class JobContainer(Model):
    """The only container of a Job; its image needs no version that an operator reads."""

    name: Literal["main"] = "main"
    image: str
    command: list[str]
    args: list[str] | None = None
    env: list[EnvVar] | None = None
    envFrom: list[EnvFrom] | None = None
    volumeMounts: list[VolumeMount] | None = None


class JobPod(Model):
    """A pod that ends."""

    restartPolicy: Literal["Never"] = "Never"
    containers: list[JobContainer] = Field(min_length=1, max_length=1)
    volumes: list[Volume] | None = None


class JobTemplate(Model):
    """What Kubernetes calls a pod template."""

    spec: JobPod


class JobSpec(Model):
    """Pods of a Job: one, started anew at most ``backoffLimit`` times."""

    backoffLimit: int = Field(ge=0)
    template: JobTemplate


class Job(Model):
    """batch/v1 Job."""

    apiVersion: Literal["batch/v1"] = "batch/v1"
    kind: Literal["Job"] = "Job"
    metadata: Metadata
    spec: JobSpec


class Requests(Model):
    """Size of a volume."""

    storage: Quantity


class ClaimResources(Model):
    """What a claim asks for."""

    requests: Requests


class ClaimSpec(Model):
    """A volume that pods on several nodes may mount."""

    accessModes: list[Literal["ReadWriteMany"]]
    resources: ClaimResources


class ClaimMetadata(Model):
    """Name of a claim, which may have dots."""

    name: Reference


class Claim(Model):
    """v1 PersistentVolumeClaim."""

    apiVersion: Literal["v1"] = "v1"
    kind: Literal["PersistentVolumeClaim"] = "PersistentVolumeClaim"
    metadata: ClaimMetadata
    spec: ClaimSpec


class Hardware(Model):
    """GPUs that a request may use."""

    gpuSku: Literal["gb200_sxm", "b200_sxm", "h200_sxm", "h100_sxm"] | None = None
    totalGpus: int = Field(ge=1)
    numGpusPerNode: int = Field(ge=1)


class RequestWorkload(Model):
    """Traffic of a request."""

    isl: int = Field(ge=1)
    osl: int = Field(ge=1)
    concurrency: int = Field(ge=1)


class Targets(Model):
    """Latency targets in milliseconds: TTFT and ITL, or the time of a whole request."""

    ttft: float | None = Field(None, gt=0)
    itl: float | None = Field(None, gt=0)
    e2eLatency: float | None = Field(None, gt=0)


class ModelCache(Model):
    """Where weights are kept."""

    pvcName: Reference
    pvcMountPath: str


class RequestSpec(Model):
    """What Dynamo's own profiler is asked to find a deployment for."""

    model: str
    backend: Literal["vllm", "sglang", "trtllm"]
    image: Image
    hardware: Hardware
    workload: RequestWorkload
    sla: Targets | None = None
    modelCache: ModelCache | None = None
    searchStrategy: Literal["rapid"] = "rapid"
    autoApply: Literal[False] = False


class DeploymentRequest(Model):
    """DynamoGraphDeploymentRequest v1beta1."""

    apiVersion: Literal["nvidia.com/v1beta1"] = "nvidia.com/v1beta1"
    kind: Literal["DynamoGraphDeploymentRequest"] = "DynamoGraphDeploymentRequest"
    metadata: Metadata
    spec: RequestSpec
