"""A FastAPI service around a model, as people write it: it knows nothing of bursar.

    uvicorn app:app
"""

import importlib
import os

from fastapi import FastAPI
from pydantic import BaseModel

model = importlib.import_module(os.environ.get("SERVICE_MODEL", "model"))  # or torch_model


class Images(BaseModel):
    id: int
    rows: list[list[float]]
    copies: int = 1


class Image(BaseModel):
    id: int
    row: list[float]
    rounds: int = 1


class Digits(BaseModel):
    id: int
    digits: list[int]


class Parts(BaseModel):
    id: int
    parts: dict[str, float]


app = FastAPI()


@app.post("/predict")
def predict(images: Images) -> Digits:
    return Digits(id=images.id, digits=model.predict(images.rows, images.copies))


@app.post("/explain")
def explain(image: Image) -> Parts:
    return Parts(id=image.id, parts=model.explain(image.row, image.rounds))
