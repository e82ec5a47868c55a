"""Jobs beside a deployment: one that downloads the model, one that measures what was predicted."""

from __future__ import annotations

import math
from typing import Any

from aiconf.deploy.dgd import Deployment
from aiconf.deploy.launch import literal, served_model
from aiconf.deploy.pods import CACHE_FOLDER
from aiconf.deploy.render import Path
from aiconf.deploy.schema_beside import Claim, Job
from aiconf.model.memory import checkpoint_bytes
from aiconf.serving.plan import Plan

AIPERF = "0.13.0"  # of PyPI, the release whose options were read
_PYTHON = "python:3.12-slim"  # any image with pip and Python 3.10 to 3.13 will do
_RESULTS = "/results"
_RECORD = "profile_export_aiperf.json"
_ROUNDS = 10  # requests per user: the first and last are a small part of the mean
_SPARE = 1.2  # configuration, tokenizer, and the blocks of a file system
# The measured record is the last line of the log, where it outlives the pod's disk.
_MEASURE = f"""set -e
pip install --quiet "aiperf=={AIPERF}" >&2
aiperf "$@" >&2
python3 -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))))' {_RESULTS}/{_RECORD}
"""
_DOWNLOAD = (
    "import sys; from huggingface_hub import snapshot_download; snapshot_download(sys.argv[1])"
)


def benchmark(deployment: Deployment) -> tuple[dict[str, Any], dict[Path, str]]:
    """Return the Job that measures the predicted operating point with AIPerf, and its reasons."""
    container = {
        "image": _PYTHON,
        # Options are arguments of the script, so that no shell reads them.
        "command": ["bash", "-c", _MEASURE, "aiperf"],
        "args": measure(deployment.plan, f"http://{deployment.name}-frontend:8000"),
        "envFrom": [{"secretRef": {"name": deployment.options.token_secret}}],
    }
    job = _job(f"{deployment.name}-benchmark", 0, {"containers": [container]})
    place: Path = ("spec", "template", "spec", "containers", 0)
    plan = deployment.plan
    work = plan.workload
    shown = f" + {work.images}" if work.images else ""
    point = f"{plan.concurrency} users, {work.text} prompt{shown} and {work.osl} output"
    code = "; it runs Python code of the checkpoint's repository" if plan.model.own_code else ""
    why: dict[Path, str] = {
        (*place, "args"): f"the predicted point: {point} tokens{code}",
        (*place, "image"): "any image with pip; aiperf is installed at start",
    }
    return job.document(), why


def measure(plan: Plan, url: str) -> list[str]:
    """Return AIPerf's arguments for the predicted lengths, reuse and concurrency.

    Plain completions, since a chat template would lengthen prompts; images go through the chat
    endpoint alone (ai-dynamo/aiperf docs/tutorials/synthetic-dataset.md), each of noise of its
    own. Every prompt is used once, so that nothing but the shared prefix is found in the cache.
    """
    work, users = plan.workload, plan.concurrency
    words = ["profile", "--model", literal(served_model(plan))]
    words += ["--tokenizer", literal(plan.model.checkpoint), "--url", url]
    words += ["--tokenizer-trust-remote-code"] if plan.model.own_code else []
    kind = "chat" if work.images else "completions"
    words += ["--endpoint-type", kind, "--streaming"]
    words += ["--isl", str(work.text - work.prefix), "--isl-stddev", "0"]
    words += ["--osl", str(work.osl), "--osl-stddev", "0"]
    words += ["--extra-inputs", "ignore_eos:true", "--extra-inputs", f"min_tokens:{work.osl}"]
    if work.images:
        words += ["--image-batch-size", str(work.images.count), "--image-format", "jpeg"]
        words += ["--image-width-mean", str(work.images.width), "--image-width-stddev", "0"]
        words += ["--image-height-mean", str(work.images.height), "--image-height-stddev", "0"]
    if work.prefix:
        words += ["--num-prefix-prompts", "1", "--prefix-prompt-length", str(work.prefix)]
    words += ["--concurrency", str(users), "--request-count", str(_ROUNDS * users)]
    words += ["--warmup-request-count", str(users)]
    words += ["--num-dataset-entries", str((_ROUNDS + 1) * users), "--random-seed", "0"]
    return [*words, "--ui", "none", "--output-artifact-dir", _RESULTS]


def model_cache(deployment: Deployment) -> list[dict[str, Any]]:
    """Return the volume claim for weights and the Job that fills it."""
    options, spec = deployment.options, deployment.plan.model
    name = options.model_cache or ""
    size = math.ceil(_SPARE * checkpoint_bytes(spec) / 2**30) + 1
    resources = {"requests": {"storage": f"{size}Gi"}}
    claim = Claim.model_validate(
        {
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": resources},
        }
    )
    volume = {"name": "model-cache", "persistentVolumeClaim": {"claimName": name}}
    container = {
        "image": deployment.runtime.image,
        "command": ["python3", "-c", _DOWNLOAD, literal(spec.checkpoint)],
        "env": [{"name": "HF_HOME", "value": CACHE_FOLDER}],
        "envFrom": [{"secretRef": {"name": options.token_secret}}],
        "volumeMounts": [{"name": "model-cache", "mountPath": CACHE_FOLDER}],
    }
    pod = {"containers": [container], "volumes": [volume]}
    job = _job(f"{deployment.name}-download", 3, pod)
    return [claim.document(), job.document()]


def _job(name: str, tries: int, pod: dict[str, Any]) -> Job:
    spec = {"backoffLimit": tries, "template": {"spec": pod}}
    return Job.model_validate({"metadata": {"name": name}, "spec": spec})
