"""Errors as RFC 9457 tells them: `application/problem+json`, the same shape for all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("chat_api")


class InvalidField(BaseModel):
    """One part of a request that does not fit."""

    location: str = Field(description="Where it stands, such as `body.content`")
    detail: str


class Problem(BaseModel):
    """What went wrong. `type` tells programs, `detail` tells people."""

    type: str = Field(default="about:blank", description="`about:blank` where the status says it all, else a URN")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    errors: list[InvalidField] = []


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self, status: int, detail: str, *, kind: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = problem(status, detail, kind=kind)
        self.headers = headers


def problem(status: int, detail: str, *, kind: str | None = None, errors: list[InvalidField] | None = None) -> Problem:
    """Return a problem of this status; ``kind`` names one that a program should tell from others of it."""
    return Problem(
        type=f"urn:chat-api:problem:{kind}" if kind else "about:blank",
        title=kind.replace("-", " ").capitalize() if kind else HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=errors or [],
    )


def not_found() -> ProblemError:
    """The answer for what is not there and for what is another's: nobody learns which."""
    return ProblemError(404, "You have no such conversation.")


def from_exception(error: BaseException) -> Problem:
    """Return what a client may know of an error, whatever it is."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, IntegrityError):
        # What a client can name was looked up before: it went away meanwhile, or the user never had an account.
        broken = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        if broken == "fk_conversations_user_id":
            return problem(403, "The token is good, but its user has no account here.", kind="no-account")
        return problem(409, "What this request builds on was deleted meanwhile.", kind="gone-meanwhile")
    if isinstance(error, ProgrammingError) and getattr(error.orig, "sqlstate", None) == "42501":
        log.warning("the database refused a statement: %s", error.orig)
        return problem(403, "You may not do this here, or no longer.", kind="not-allowed")
    if isinstance(error, OperationalError | PoolTimeoutError):
        log.warning("the database did not answer: %s", type(error.__cause__ or error).__name__)
        return problem(503, "The database does not answer at the moment. Try again.")
    return problem(500, "Something went wrong here. It is logged.")


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every error of ``app``, which has these routes, as a problem, and describe the shape in its OpenAPI."""

    def answer(said: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
        headers = {"Retry-After": "1", **(headers or {})} if said.status == 503 else headers
        return JSONResponse(jsonable_encoder(said), said.status, headers, MEDIA_TYPE)

    @app.exception_handler(HTTPException)
    async def of_framework(request: Request, error: HTTPException) -> JSONResponse:
        headers = error.headers
        if error.status_code == 405:  # the framework names the methods of the first route that has the path
            there = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
            methods = {method for route in there if isinstance(route, Route) for method in route.methods or ()}
            headers = {"Allow": ", ".join(sorted(methods))} if methods else headers
        return answer(problem(error.status_code, str(error.detail)), headers)

    @app.exception_handler(RequestValidationError)
    async def of_request(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input: it may hold what UTF-8 cannot, and a client knows what it sent.
        errors = [InvalidField(location=".".join(map(str, e["loc"])), detail=e["msg"]) for e in error.errors()]
        return answer(problem(422, "The request does not fit the description of this endpoint.", errors=errors))

    @app.exception_handler(ProblemError)
    async def of_ours(_: Request, error: ProblemError) -> JSONResponse:
        return answer(error.problem, error.headers)

    @app.exception_handler(IntegrityError)
    @app.exception_handler(OperationalError)
    @app.exception_handler(ProgrammingError)
    @app.exception_handler(PoolTimeoutError)
    @app.exception_handler(Exception)
    async def of_others(_: Request, error: Exception) -> JSONResponse:
        return answer(from_exception(error))

    described = app.openapi

    def openapi() -> dict[str, Any]:
        schemas = described().setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            shape = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= {**shape.pop("$defs"), "Problem": shape}
        return described()

    app.openapi = openapi  # type: ignore[method-assign]
