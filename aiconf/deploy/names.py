"""Names that Kubernetes accepts, and the deployment's own, made from any text."""

from __future__ import annotations

import re

# Grove builds pod names from both; Dynamo's webhook refuses more (role suffix included).
COMBINED_NAME_LIMIT = 45
ROLE_SUFFIX = len("-ldr")  # leader or worker pods of a multi-node component

SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
# The name of an object that others made; may have dots.
REFERENCE = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
REFERENCE_LIMIT = 253
EXTENDED_RESOURCE = r"^[a-z0-9.-]+/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


def pod_name_length(graph: str, component: str, spread: bool) -> int:
    """Return the characters that Grove counts: deployment, its scaling group and the pods' clique.

    Over several nodes (``spread``) the operator names both the group and the cliques in it after
    the component.
    """
    return len(graph) + len(component) + (len(component) + ROLE_SUFFIX if spread else 0)


_NAME_LIMIT = COMBINED_NAME_LIMIT - pod_name_length("", "prefill", True)


def deployment_name(text: str, suffix: str = "") -> str:
    """Return ``text`` as a name that Kubernetes and Grove accept (RFC 1123, short enough).

    Parameters
    ----------
    suffix
        Ending after a hyphen that stays whole where the name is cut; empty: none.
    """
    ending = f"-{suffix}" if suffix else ""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return (slug[: _NAME_LIMIT - len(ending)].strip("-") or "aiconf") + ending


def is_reference(text: str) -> bool:
    """Whether ``text`` may be the name of a secret or a volume claim."""
    return len(text) <= REFERENCE_LIMIT and re.fullmatch(REFERENCE[1:-1], text) is not None


def is_extended_resource(text: str) -> bool:
    """Whether ``text`` may be the name of a resource that a device plugin offers."""
    return re.fullmatch(EXTENDED_RESOURCE[1:-1], text) is not None
