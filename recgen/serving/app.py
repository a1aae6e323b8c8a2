"""The HTTP service: which image of an item a user is shown. Nothing is drawn inside a request."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.security import APIKeyHeader
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recgen.core.version import __version__
from recgen.data.at_url import image_file
from recgen.data.shards import read_range
from recgen.serving.limits import Keys, RateLimit
from recgen.serving.policy import choose, options
from recgen.serving.store import Impression, Store, arm
from recgen.serving.writer import Writer

_PAGE = Path(__file__).with_name("page.html")
_KEY = APIKeyHeader(name="X-API-Key", auto_error=False)
_NO_NUL = r"^[^\x00]*$"  # as no text of PostgreSQL's has
_TOKEN = Query(min_length=1, max_length=256, pattern=_NO_NUL)
_CREATIVE = {
    "Cache-Control": "public, max-age=31536000, immutable"
}  # its address names the recipe and how it was drawn
_ITEM = {
    "Cache-Control": "public, max-age=300"
}  # its address names the item, whose image may be another one tomorrow


class Answer(BaseModel):
    """What is shown."""

    user: str
    item: str
    arm: str = Field(
        description="the generator's name for the user's own creative, group.<generator>, or original"
    )
    image: str | None = Field(description="where the image is; null for an item without one")
    recipe: str | None = Field(description="SHA-256 of the creative's recipe; null for the item's own image")
    propensity: float = Field(description="the probability with which this arm was chosen")
    impression: str = Field(description="the name of what was shown, to be sent back with a click")


class Click(BaseModel):
    """A click on what was shown."""

    impression: str = Field(min_length=1, max_length=64, pattern=_NO_NUL)


@dataclass(frozen=True)
class Options:
    """How a run is served.

    Attributes
    ----------
    folder
        The run's folder, whose creatives are published.
    keys
        The API keys.
    rate
        Requests a second of each caller; 0 for no limit.
    explore
        Share of impressions that is dealt to all images there are of an item, so that the log says something of each.
    database
        Where the store is, see `recgen.serving.store.Store`.
    """

    folder: Path
    keys: Keys
    rate: float = 0.0
    explore: float = 0.0
    database: str | None = None

    def store(self) -> Store:
        """Return a connection of its own to the store."""
        return Store(self.folder, self.database)


class Service:
    """What one process of the service holds: a connection to read by, a thread that writes, limits and metrics."""

    def __init__(self, given: Options) -> None:
        self.given = given
        self.store, self.writer = given.store(), Writer(given.folder, given.database)
        self._threads = threading.local()
        self.limit = RateLimit(given.rate)
        self.registry = CollectorRegistry()
        self.shown = Counter("recgen_impressions", "Images shown, by arm", ["arm"], registry=self.registry)
        self.missed = Counter(
            "recgen_misses", "Requests without a creative, which were queued", registry=self.registry
        )
        self.clicked = Counter("recgen_clicks", "Clicks that came back", registry=self.registry)
        self.seconds = Histogram(
            "recgen_request_seconds", "Time of a request, by path and status", ["path", "status"], registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
        )  # fmt: skip
        self.registry.register(_Waiting(given))

    def of_thread(self) -> Store:
        """Return the calling thread's own connection to the store."""
        if not hasattr(self._threads, "store"):
            self._threads.store = self.given.store()
        return self._threads.store

    async def show(self, user: str, item: str, page: str | None, position: int) -> Answer:
        """Choose what a user is shown of an item, and write it down."""
        known, own_image = self.store.item(item)
        if not known:
            raise HTTPException(404, f"item {item!r} is not in the catalogue")
        found = options(self.store, user, item)
        option, chance = choose(found, self.given.explore, random.random())
        missing = found[0].whose != "own" and not self.store.refused(user, item)
        miss = (user, item) if missing and self.store.shown_to(user) is not None else None
        impression = uuid.uuid4().hex
        # read anew for every request: another process may have published another generator since this one started
        generator, source = self.store.fact("generator") or "none", self.store.fact("source") or ""
        creative, name = option.creative, arm(generator, option.whose)
        picture = "" if creative is None else creative.path
        logged = Impression(impression, page or impression, position, user, item, name, picture, chance)
        await self.writer.log(logged, miss)
        self.shown.labels(name).inc()
        if miss:
            self.missed.inc()
        image = None if own_image is None else f"/items/{quote(item, safe='')}"
        if creative is not None:
            image = f"/images/{creative.recipe}.png?drawn={source[:12]}"
        recipe = None if creative is None else creative.recipe
        return Answer(
            user=user,
            item=item,
            arm=name,
            image=image,
            recipe=recipe,
            propensity=chance,
            impression=impression,
        )

    async def file(self, name: str | None, headers: dict[str, str]) -> Response:
        """Return a file that the store names, below the run's folder or, as the images of users' data sets do, elsewhere.

        No part of an address ever becomes part of a path: what is asked for is looked up.

        Raises
        ------
        HTTPException
            404 where the store names none, or it is gone.
        """
        packed = None if name is None else self.store.packed(name)
        path = None if name is None else image_file(self.given.folder, name if packed is None else packed[0])
        if path is None or not path.is_file():
            raise HTTPException(404, "no such image")
        if packed is None:
            return FileResponse(path, headers=headers)
        data = await run_in_threadpool(read_range, path, *packed[1:])
        return Response(data, media_type="image/png", headers=headers)

    def close(self) -> None:
        """Write what is left, and close the store."""
        self.writer.close()
        self.store.close()


class _Waiting:
    """The length of the queue, counted when metrics are asked for."""

    def __init__(self, given: Options) -> None:
        self.given = given

    def collect(self) -> list[GaugeMetricFamily]:
        store = self.given.store()
        found = GaugeMetricFamily(
            "recgen_queue", "Pairs of user and item in the queue, by state", labels=["state"]
        )
        for state, count in store.waiting().items():
            found.add_metric([state], count)
        store.close()
        return [found]


def application(given: Options) -> FastAPI:
    """Return the application that serves a run."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(given)
        yield
        app.state.service.close()

    app = FastAPI(title="recgen", version=__version__, description=__doc__, lifespan=lifespan)
    app.add_middleware(_Timed)
    _routes(app, given)
    return app


def _routes(app: FastAPI, given: Options) -> None:
    async def admitted(request: Request, key: Annotated[str | None, Depends(_KEY)]) -> None:
        if not given.keys.accepts(key):
            raise HTTPException(401, "an API key is needed, in the header X-API-Key")
        caller = key if given.keys.asked and key else (request.client.host if request.client else "")
        wait = app.state.service.limit.wait(caller)
        if wait:
            raise HTTPException(429, "too many requests", {"Retry-After": f"{max(1, round(wait))}"})

    @app.get("/v1/creative", response_model=Answer, dependencies=[Depends(admitted)])
    async def creative(
        user: Annotated[str, _TOKEN],
        item: Annotated[str, _TOKEN],
        page: Annotated[str | None, Query(max_length=64, pattern=_NO_NUL)] = None,
        position: Annotated[int, Query(ge=1, le=10_000)] = 1,
    ) -> Response:
        """Which image of an item a user is shown. Without `page` every request is a page of its own."""
        answer = await app.state.service.show(user, item, page, position)
        return Response(answer.model_dump_json(), media_type="application/json")

    @app.post("/v1/click", status_code=204, dependencies=[Depends(admitted)])
    def click(clicked: Click) -> None:
        """Note a click on what was shown."""
        service: Service = app.state.service
        if not service.of_thread().click(clicked.impression):
            raise HTTPException(404, "no such impression")
        service.clicked.inc()

    @app.get("/images/{recipe}.png")
    async def image(recipe: Annotated[str, InPath(pattern=_NO_NUL)]) -> Response:
        """A creative, by its recipe's SHA-256."""
        return await app.state.service.file(app.state.service.store.image(recipe), _CREATIVE)

    @app.get("/items/{item:path}")
    async def own_image(item: Annotated[str, InPath(pattern=_NO_NUL)]) -> Response:
        """An item's own image."""
        return await app.state.service.file(app.state.service.store.item(item)[1], _ITEM)

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether the service answers and can read its store."""
        return JSONResponse({"status": "ok", "generator": app.state.service.store.fact("generator")})

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(app.state.service.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"))


class _Timed:
    """Counts the seconds of every request, by path and status."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), "500"

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            seconds = scope["app"].state.service.seconds
            seconds.labels(path, status).observe(time.perf_counter() - started)
