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
    from aiconf.serving.plan import Plan

_ENGINE_FILES = ("engine_worker.yaml", "engine_prefill.yaml", "engine_decode.yaml")


def write_deployment(
    plan: Plan, folder: Path, *, force: bool = False, options: Options | None = None
) -> list[Path]:
    """Write the deployment of ``plan`` into ``folder``, all or nothing.

    Parameters
    ----------
    force
        Replace files of an earlier deployment in a folder that is not empty; other files stay.

    Returns
    -------
    list of Path
        ``deploy.yaml``, one ``engine_<component>.yaml`` per kind of worker, ``README.md``.

    Raises
    ------
    UserError
        The folder is not empty, cannot be written, or the engine cannot run the plan.
    """
    from aiconf.deploy.dgd import build

    files = contents(build(plan, options))
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


def _place(files: dict[str, str], staged: Path, folder: Path) -> None:
    for name, text in files.items():
        (staged / name).write_text(text, encoding="utf-8", newline="\n")
    if not folder.exists():
        staged.rename(folder)
        return
    for name in files:
        (staged / name).replace(folder / name)
    for name in set(_ENGINE_FILES) - set(files):
        (folder / name).unlink(missing_ok=True)


def contents(deployment: Deployment) -> dict[str, str]:
    """Return the text of every file of ``deployment`` by name."""
    from aiconf.deploy.render import render

    files = {"deploy.yaml": manifest(deployment)}
    for part in deployment.parts:
        head = f"# Engine settings of the {part.component} ({part.launch.module}).\n---\n"
        text = render(part.launch.config, part.launch.config_why)
        files[f"engine_{part.component}.yaml"] = head + text
    files["README.md"] = _readme(deployment)
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


def _readme(deployment: Deployment) -> str:
    import json
    import shlex

    import jinja2

    from aiconf.deploy.launch import served_model
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
    plan = deployment.plan
    body = {
        "model": served_model(plan),
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 16,
    }
    values: dict[str, Any] = {
        "deployment": deployment,
        "plan": plan,
        "model": served_model(plan),
        "body": json.dumps(body),
        "frontend": f"{deployment.name}-frontend",
    }
    return environment.get_template("deploy_readme.md.j2").render(values)


def _code(value: object) -> str:
    """Return ``value`` as inline Markdown code of one line, safe inside a table."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "/")
    return f"`{text}`"
