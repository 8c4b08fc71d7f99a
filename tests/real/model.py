"""A trivial model on the real kserve server: `python model.py PORT`, on loopback only.

kserve's own server binds all addresses; its application runs under our uvicorn here.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy
import uvicorn
from kserve import Model
from kserve.errors import InferenceError
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from kserve.utils.utils import get_predict_input, get_predict_response

FEATURES = 4


class Churn(Model):
    """Class 1 where the features of a row add up to more than 0; fails as scikit-learn would."""

    def load(self) -> bool:
        self.ready = True
        return True

    async def predict(self, payload: Any, *_: Any, **__: Any) -> Any:
        try:
            rows = numpy.asarray(get_predict_input(payload), dtype=float)
            if rows.shape[1] != FEATURES:
                raise ValueError(
                    f"X has {rows.shape[1]} features, but LogisticRegression is expecting "
                    f"{FEATURES} features as input."
                )
            found = (rows.sum(axis=1) > 0).astype(int)
            return get_predict_response(payload, found, self.name)
        except Exception as error:  # as kserve's sklearnserver does
            raise InferenceError(str(error)) from error


def main() -> None:
    model = Churn("churn-model")
    model.load()
    repository = ModelRepository()
    repository.update(model)
    application = "kserve.model_server:app"
    plane, extension = DataPlane(repository), ModelRepositoryExtension(repository)
    RESTServer(application, plane, extension, http_port=0).create_application()
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_config=None)


if __name__ == "__main__":
    main()
