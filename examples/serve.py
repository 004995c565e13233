"""A server around an ONNX export, which needs no torch in memory, or a skill.

skip-exp export outputs/.../skill small-onnx --format onnx
SKILL=small-onnx uvicorn --app-dir examples serve:app
curl localhost:8000/predict --json '["a charming film", "a mess"]'
"""

import asyncio
import json
import os
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect

import skip_exp
from skip_exp.errors import SkipError
from skip_exp.skill.classifier import example_texts

BYTES = 1_000_000  # of a request
TEXTS = 1_000  # of a request; a pair is one
CHARACTERS = 20_000  # of a text; the model reads the first tokens alone
BATCH = 16  # texts that are answered before the server looks whether the client is still there
AT_ONCE = 4  # batches, of different requests: more are not faster and take more memory

folder = os.environ["SKILL"]
is_onnx = os.path.isfile(f"{folder}/model.onnx")
skill = (skip_exp.OnnxSkill if is_onnx else skip_exp.Skill).load(folder)  # Skill loads torch
app = FastAPI(title=repr(skill))
# For the page /docs alone: pydantic's errors of a megabyte of numbers take a gigabyte.
schema = TypeAdapter(list[str | list[str] | dict[str, Any]]).json_schema()
body = {"content": {"application/json": {"schema": schema}}, "required": True}
turns = asyncio.Semaphore(AT_ONCE)


@app.post("/predict", openapi_extra={"requestBody": body})
async def predict(request: Request) -> list[dict[str, Any]]:
    """Label and probabilities of texts, pairs of texts or rows with the task's columns."""
    texts = check(await read(request))
    answers = []
    for start in range(0, len(texts), BATCH):
        await request.is_disconnected()  # the connection is read on, while this waits for its turn
        async with turns:
            if await request.is_disconnected():
                raise HTTPException(499, "the client has gone")  # nobody reads it
            answers += await run_in_threadpool(skill.predict, texts[start : start + BATCH])
    return answers


async def read(request: Request) -> bytes:
    """The body. The rest of too large a one is thrown away, so that the client reads the answer."""
    content = b""
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= BYTES:
                content += part
            elif size > 32 * BYTES:
                break
    except ClientDisconnect as error:
        raise HTTPException(499, "the client has gone") from error
    if size > BYTES:
        raise HTTPException(413, f"more than {BYTES} bytes: send fewer texts at once")
    return content


def check(content: bytes) -> list[list[str]]:
    """The one or two texts of every example of a body, within the limits."""
    try:
        examples = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"no JSON: {error}") from error
    if not isinstance(examples, list):
        raise HTTPException(422, "no list of examples")
    if len(examples) > TEXTS:
        raise HTTPException(422, f"{len(examples)} texts: at most {TEXTS} at once")
    found = []
    for number, example in enumerate(examples, 1):
        try:
            texts = example_texts(skill.about, example, number)
        except SkipError as error:
            raise HTTPException(422, str(error)) from error
        longest = max(map(len, texts))
        if longest > CHARACTERS:
            message = f"example {number}: {longest} characters: at most {CHARACTERS} in a text"
            raise HTTPException(422, message)
        if not "".join(texts).strip():
            raise HTTPException(422, f"example {number}: at least 1 character, not an empty text")
        found.append(texts)
    return found
