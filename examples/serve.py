"""A server around an ONNX export, which needs no torch in memory, or a skill.

skip-exp export outputs/.../skill small-onnx --format onnx
SKILL=small-onnx uvicorn --app-dir examples serve:app
curl localhost:8000/predict --json '["a charming film", "a mess"]'
"""

import os
from typing import Any

from fastapi import FastAPI, HTTPException

import skip_exp
from skip_exp.errors import SkipError

folder = os.environ["SKILL"]
is_onnx = os.path.isfile(f"{folder}/model.onnx")
skill = (skip_exp.OnnxSkill if is_onnx else skip_exp.Skill).load(folder)  # Skill loads torch
app = FastAPI(title=repr(skill))


@app.post("/predict")
def predict(examples: list[str | list[str] | dict[str, Any]]) -> list[dict[str, Any]]:
    """Label and probabilities of texts, pairs of texts or rows with the task's columns."""
    try:
        return skill.predict(examples)  # FastAPI calls this in threads, which may share a skill
    except SkipError as error:
        raise HTTPException(422, str(error)) from error
