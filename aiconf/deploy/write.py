"""A plan as files on disk: manifests, engine configuration, and a readme that says what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiconf.errors import UserError

if TYPE_CHECKING:
    from aiconf.deploy.dgd import Deployment
    from aiconf.deploy.options import Options
    from aiconf.deploy.planner import Planner
    from aiconf.serving.plan import Plan

# What a folder of ours may hold; with --force, such files of an earlier deployment go away.
_OURS = ("deploy.yaml", "engine_*.yaml", "launch_node_*.sh", "benchmark.yaml", "request.yaml",
         "model-cache.yaml", "llm-d-values.yaml", "planner_profile/*/raw_data.npz",
         "README.md")  # fmt: skip


def write_deployment(
    plan: Plan, folder: Path, *, force: bool = False, options: Options | None = None,
    planner: Planner | None = None,
) -> list[Path]:  # fmt: skip
    """Write the deployment of ``plan`` into ``folder``, all or nothing.

    Parameters
    ----------
    force
        Replace files of an earlier deployment in a folder that is not empty; other files stay.

    Returns
    -------
    list of Path
        ``deploy.yaml``; ``engine_<component>.yaml`` per kind of worker; ``benchmark.yaml``, a Job
        that measures the predicted point; ``request.yaml`` for Dynamo's own profiler;
        ``launch_node_<n>.sh`` for Docker; ``llm-d-values.yaml``; ``model-cache.yaml`` where a
        cache was asked for; ``planner_profile/`` with a planner; ``README.md``.

    Raises
    ------
    UserError
        The folder is not empty, cannot be written, or the engine cannot run the plan.
    """
    from aiconf.deploy.dgd import build

    files: dict[str, str | bytes] = dict(contents(build(plan, options, planner)))
    files |= planner.files if planner else {}
    try:
        _check_target(folder, force)
        target = folder.resolve()
        staged = target.parent / f".{target.name}-{os.getpid()}"
        staged.mkdir(parents=True)
        try:
            _place(files, staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return [folder / name for name in files]


def _check_target(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder for the deployment")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UserError(f"{folder} is not empty: name another folder, or use --force to replace")


def _place(files: dict[str, str | bytes], staged: Path, folder: Path) -> None:
    for name, content in files.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        (staged / name).write_bytes(data)
        if name.endswith(".sh"):
            mode = (staged / name).stat().st_mode
            (staged / name).chmod(mode | (mode & 0o444) >> 2)  # may run it who may read it
    if not folder.exists():
        staged.rename(folder)
        return
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).replace(folder / name)
    for pattern in _OURS:
        for old in folder.glob(pattern):
            if old.relative_to(folder).as_posix() not in files:
                old.unlink()


def contents(deployment: Deployment) -> dict[str, str]:
    """Return the text of every file of ``deployment`` by name."""
    from aiconf.deploy import docker, jobs, llmd
    from aiconf.deploy.launch import OWN_CODE
    from aiconf.deploy.render import render, render_all
    from aiconf.deploy.request import deployment_request

    files = {"deploy.yaml": manifest(deployment)}
    for part in deployment.parts:
        head = f"# Engine settings of the {part.component} ({part.launch.module}).\n---\n"
        text = render(part.launch.config, part.launch.config_why)
        files[f"engine_{part.component}.yaml"] = head + text
    if deployment.options.model_cache:
        documents = [render(one) for one in jobs.model_cache(deployment)]
        files["model-cache.yaml"] = render_all(
            documents, ["Weights of the model, downloaded once for all pods."]
        )
    job, why = jobs.benchmark(deployment)
    files["benchmark.yaml"] = render_all(
        [render(job, why)], ["Measures the predicted operating point with AIPerf."]
    )
    request = deployment_request(deployment)
    targets = (
        "Targets in milliseconds are those of the search."
        if "sla" in request["spec"]
        else "Add spec.sla with your targets: ttft and itl in milliseconds."
    )
    files["request.yaml"] = render_all(
        [render(request)],
        ["The same question to Dynamo's own profiler; it deploys nothing by itself.", targets],
    )
    absent = {}
    reason = docker.why_not(deployment)
    if reason:
        absent["launch_node_N.sh"] = reason
    else:
        for name, values in docker.scripts(deployment).items():
            files[name] = _template("launch_node.sh.j2", values)
    code = ["--trust-remote-code: " + OWN_CODE + "."] if deployment.plan.model.own_code else []
    reason = llmd.why_not(deployment)
    if reason:
        absent["llm-d-values.yaml"] = reason
    else:
        files["llm-d-values.yaml"] = render_all(
            [render(llmd.values(deployment))],
            ["The same workers for llm-d: values of the chart llm-d-modelservice.", *code],
        )
    files["README.md"] = _readme(deployment, files, absent)
    return files


def manifest(deployment: Deployment) -> str:
    """Return ``deploy.yaml``: all documents, with the reasons of chosen values as comments."""
    from aiconf.deploy.render import render, render_all

    plan, engine = deployment.plan, deployment.runtime
    mode = "disaggregated" if plan.disaggregated else "aggregated"
    header = [
        f"{plan.model.name} on {plan.gpus} GPUs, {mode}, {plan.backend}.",
        f"Image: Dynamo {engine.dynamo} with {plan.backend} {engine.engine_version}; "
        f"predicted for {plan.backend} {plan.backend_version}.",
        *deployment.notes,
    ]
    documents = []
    for document in deployment.documents:
        is_graph = document["kind"] == "DynamoGraphDeployment"
        documents.append(render(document, deployment.comments if is_graph else None))
    return render_all(documents, header)


def _readme(deployment: Deployment, files: dict[str, str], absent: dict[str, str]) -> str:
    import json

    from aiconf.deploy import docker
    from aiconf.deploy.launch import served_model

    plan = deployment.plan
    body = {
        "model": served_model(plan),
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 16,
    }
    parts = {part.worker.role: part.worker for part in deployment.parts}
    serving = parts.get("agg") or parts["decode"]
    values = {
        "deployment": deployment,
        "plan": plan,
        "model": served_model(plan),
        "body": json.dumps(body),
        "frontend": f"{deployment.name}-frontend",
        "files": files,
        "calls": docker.calls(deployment),
        "network": docker.over_network(deployment),
        "absent": absent,
        "serving": serving,
        "prefill": parts.get("prefill"),
    }
    return _template("deploy_readme.md.j2", values)


def _template(name: str, values: dict[str, Any]) -> str:
    import shlex

    import jinja2

    from aiconf.resources import data_dir

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_dir("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    environment.filters["code"] = _code
    environment.filters["line"] = _line
    return environment.get_template(name).render(values)


def _line(value: object) -> str:
    """Return ``value`` on one line, as a comment may hold it."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def _code(value: object) -> str:
    """Return ``value`` as inline Markdown code of one line, safe inside a table."""
    text = _line(value).replace("`", "'").replace("|", "/")
    return f"`{text}`"
