"""Rules between the fields of Dynamo's types: what its CustomResourceDefinitions say in CEL.

Each rule is given a value of the right type, with defaults filled in, and returns what is wrong,
or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

Rule = Callable[[Any], str | None]
_Object = Mapping[str, Any]

_EXECUTOR = "nvidia.com/vllm-distributed-executor-backend"
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(1000), **{s: Decimal(1000) ** (i + 2) for i, s in enumerate("MGTPE")},
    **{f"{s}i": Decimal(1024) ** (i + 1) for i, s in enumerate("KMGTPE")},
}  # fmt: skip


def amount(quantity: object) -> Decimal:
    """Return a Kubernetes quantity such as ``80Gi`` or ``500m`` as a number.

    Raises
    ------
    ValueError
        It is none.
    """
    text = str(quantity)
    for length in (2, 1, 0):
        number, suffix = text[: len(text) - length], text[len(text) - length :]
        if suffix in _SUFFIXES:
            try:
                return Decimal(number) * _SUFFIXES[suffix]
            except InvalidOperation:
                continue
    raise ValueError(f"{text!r} is no quantity")


def _text(value: _Object, key: str) -> bool:
    return bool(value.get(key))


def label_prefix(value: str) -> str | None:
    """A label key's prefix is a DNS name."""
    long = "/" in value and len(value.split("/", maxsplit=1)[0]) > 253
    return "the part before '/' is longer than 253 characters" if long else None


def label_key_stated(value: _Object) -> str | None:
    """The only topology source that the first releases knew."""
    return None if "labelKey" in value else "labelKey is missing"


def one_topology_source(value: _Object) -> str | None:
    """Where the domain is read from."""
    both = ("labelKey" in value) == ("clusterTopologyName" in value)
    return "exactly one of labelKey and clusterTopologyName is needed" if both else None


def weight_iff_preferred(value: _Object) -> str | None:
    """A required domain has no weight."""
    preferred = value.get("enforcement") == "preferred"
    if preferred == ("preferredWeight" in value):
        return None
    return "preferredWeight belongs to enforcement: preferred, which needs it"


def one_epp_source(value: _Object) -> str | None:
    """The endpoint picker's settings come from one place."""
    both = ("configMapRef" in value) == ("config" in value)
    return "exactly one of configMapRef and config is needed" if both else None


def _identified(value: _Object) -> bool:
    return _text(value, "checkpointRef") or "identity" in value


def checkpoint_identified(value: _Object) -> str | None:
    """What the first v1beta1 asked of every checkpoint."""
    return None if _identified(value) else "checkpointRef or identity is missing"


def enabled_identified(value: _Object) -> str | None:
    """v1alpha1 asks it only of an enabled one."""
    fine = not value.get("enabled") or _identified(value)
    return None if fine else "an enabled checkpoint needs checkpointRef or identity"


def enabled_stated(value: _Object) -> str | None:
    """Required since 1.4, when it came to v1beta1."""
    return None if "enabled" in value else "enabled is missing"


def job_without_reference(value: _Object) -> str | None:
    """A job makes a checkpoint; a reference names one that exists."""
    both = "job" in value and _text(value, "checkpointRef")
    return "job and checkpointRef exclude each other" if both else None


def job_in_auto(value: _Object) -> str | None:
    """In manual mode nobody would run the job."""
    fine = "job" not in value or value.get("mode", "Auto") == "Auto"
    return None if fine else "job needs mode: Auto"


def extra_clients(value: _Object) -> str | None:
    """Extra clients of the GPU memory service share the pod; pods of their own never came."""
    if value.get("extraClientPods"):
        return "extraClientPods are not supported"
    inside = str(value.get("mode", "")).lower() == "intrapod"
    fine = inside or not value.get("extraClientContainers")
    return None if fine else "extraClientContainers need the mode that stays inside the pod"


def executor_annotation(value: _Object) -> str | None:
    """How vLLM spans nodes."""
    fine = _EXECUTOR not in value or value[_EXECUTOR].lower() in ("mp", "ray")
    return None if fine else f"{_EXECUTOR} must be mp or ray"


def sidecar_image(value: _Object) -> str | None:
    """Only the main container's image may come from elsewhere."""
    fine = value.get("name") == "main" or _text(value, "image")
    return None if fine else f"container '{value.get('name')}' needs an image"


def init_image(value: _Object) -> str | None:
    """Init containers have no default."""
    return None if _text(value, "image") else f"init container '{value.get('name')}' needs an image"


def epp_config_of_epp(value: _Object) -> str | None:
    """Other components have no endpoint picker."""
    fine = "eppConfig" not in value or value.get("type") == "epp"
    return None if fine else "eppConfig needs type: epp"


def available_within_replicas(value: _Object) -> str | None:
    """No more can be up than there are; replicas 0 switches off."""
    replicas = value.get("replicas", 1)
    fine = replicas == 0 or value.get("minAvailable", 0) <= replicas
    return None if fine else f"minAvailable is more than the {replicas} replicas"


def components(value: Sequence[_Object]) -> str | None:
    """One endpoint picker; names that stay different in lower case, in which pods are named."""
    if sum(one.get("type") == "epp" for one in value) > 1:
        return "more than one component of type epp"
    names = [str(one["name"]).lower() for one in value if "name" in one]
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"component '{twice[0]}' twice (case does not count)" if twice else None


def no_restart_at_first(value: _Object) -> str | None:
    """A restart is asked of what runs already."""
    return "restart must not be set when the deployment is made" if "restart" in value else None


def created_claim(value: _Object) -> str | None:
    """What a new volume claim needs."""
    missing = [k for k in ("size", "storageClass", "volumeAccessMode") if k not in value]
    if not value.get("create") or not missing:
        return None
    return f"a claim that is created needs {', '.join(missing)}"


def shared_memory(value: _Object) -> str | None:
    """Off, or of some size."""
    if value.get("disabled") or ("size" in value and amount(value["size"]) > 0):
        return None
    return "size must be more than 0 unless disabled is true"


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        label_prefix, label_key_stated, one_topology_source, weight_iff_preferred, one_epp_source,
        checkpoint_identified, enabled_identified, enabled_stated, job_without_reference,
        job_in_auto, extra_clients, executor_annotation, sidecar_image, init_image,
        epp_config_of_epp, available_within_replicas, components, no_restart_at_first,
        created_claim, shared_memory,
    )
}  # fmt: skip
