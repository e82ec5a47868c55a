"""The planner as part of a manifest: its component, and the ConfigMap that its pod mounts."""

from __future__ import annotations

from aiconf.deploy.api import Component
from aiconf.deploy.planner import CONFIG, FOLDER, Planner
from aiconf.deploy.schema import ConfigMap, Metadata
from aiconf.deploy.versions import Runtime, component_image


def component(engine: Runtime, name: str) -> Component:
    """Return the planner of the deployment ``name``; its service account is the operator's."""
    old = tuple(map(int, engine.dynamo.split(".")[:2])) < (1, 1)  # it has no image of its own
    container = {
        "name": "main",
        "image": engine.image if old else component_image("planner", engine.dynamo),
        "command": ["python3", "-m", "dynamo.planner"],
        "args": ["--config", f"{FOLDER}/{CONFIG}"],
        "volumeMounts": [{"name": "planner", "mountPath": FOLDER, "readOnly": True}],
    }
    volume = {"name": "planner", "configMap": {"name": f"{name}-planner"}}
    return Component("planner", "planner", 1, {"containers": [container], "volumes": [volume]})


def config_map(found: Planner, name: str) -> ConfigMap:
    """Return what the planner's pod mounts."""
    return ConfigMap(metadata=Metadata(name=f"{name}-planner"), data=dict(found.texts))
