"""MLflow: a store in the run folder, or a server."""

from __future__ import annotations

import json
import time
from typing import Any

from gancompress.extras import require
from gancompress.training.callbacks import LOGGERS, Callback, Happening, Place


@LOGGERS.register("mlflow", package="mlflow")
def mlflow_store(
    place: Place, *, uri: str | None = None, experiment: str = "gancompress"
) -> Callback:
    """Write a run of MLflow (extra ``log``): into a local data base, or to the server ``uri``.

    ``mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`` shows the local one.
    """
    mlflow: Any = require("mlflow", "log")
    import mlflow.entities as entities

    home = place.folder.absolute()
    where = uri or f"sqlite:///{(home / 'mlflow.db').as_posix()}"
    files = None if uri else (home / "artifacts").as_uri()
    client: Any = mlflow.MlflowClient(tracking_uri=where)
    known = place.folder / "run.json"
    if known.is_file():
        run = str(json.loads(known.read_text("utf-8"))["run"])
        client.update_run(run, "RUNNING")
    else:
        found = client.get_experiment_by_name(experiment)
        kept_in = (
            client.create_experiment(experiment, artifact_location=files)
            if found is None
            else found.experiment_id
        )
        run = client.create_run(kept_in, run_name=place.run).info.run_id
        known.write_text(json.dumps({"run": run, "uri": where}), encoding="utf-8")
        for key, value in place.config.items():
            client.log_param(run, key, str(value)[:500])

    def tell(happening: Happening) -> None:
        now = int(time.time() * 1000)
        found = [
            entities.Metric(name.replace(":", "_"), float(value), now, happening.step)
            for name, value in happening.numbers()
        ]
        if found:
            client.log_batch(run, metrics=found)
        if happening.file is not None:
            client.log_artifact(run, str(happening.file), f"{happening.kind}s")
        if happening.kind == "event":
            client.set_tag(run, f"event.{happening.name}", happening.text[:500])
        elif happening.kind == "end":
            client.set_terminated(run)

    return tell
