"""Blocks of what turns items into words: taggers, language models behind an endpoint, keywords and tags."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field, field_serializer, model_validator

from recgen.config.strict import Strict
from recgen.core.errors import UserError, without_credentials


class Tagger(Strict):
    """The CLIP tagger with a vocabulary of one's own: a YAML as `recgen.features.vocabulary.Vocabulary` reads it."""

    tagger: str


class Prices(Strict):
    """What an endpoint charges per million tokens of questions (`input`) and of answers (`output`), in any currency."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class Endpoint(Strict):
    """An OpenAI-compatible chat service.

    Attributes
    ----------
    url
        Its base, as in ``https://host/v1``; ``/chat/completions`` is added to it.
    model
        The model's name there.
    api_key_env
        The environment variable that holds the key; null for a service without keys.
    timeout
        Seconds without a byte after which an attempt counts as failed.
    retries
        Further attempts after a failed one: a timeout, a broken connection, status 429 or 5xx, or an answer that is none.
    workers
        Requests under way at the same time.
    price_per_million_tokens
        For the line in the log that says what the answers cost.
    cache
        The file that keeps the answers; null keeps one in the run's folder. An answer that is there is never paid for again.
    """

    url: str
    model: str
    api_key_env: str | None = None
    timeout: float = Field(60.0, gt=0)
    retries: int = Field(5, ge=0)
    workers: int = Field(4, ge=1, le=64)
    price_per_million_tokens: Prices = Prices()
    cache: str | None = None

    @property
    def public_url(self) -> str:
        """The base without ``user:password@``: what messages, fingerprints and copies of the configuration show."""
        return without_credentials(self.url)

    def api_key(self, configured: str) -> str:
        """Return the service's key from the environment; the empty string for a service without.

        Parameters
        ----------
        configured
            The block's place in the YAML, for the message.

        Raises
        ------
        UserError
            When the variable that should hold the key holds none.
        """
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise UserError(
                f"{configured}.api_key_env",
                found=f"{'nothing' if not key else 'no plain text'} in the environment variable {self.api_key_env}",
                expected="the key of the service",
                todo=f"Set {self.api_key_env}, or set the key to null for a service without keys.",
            )
        return key

    @field_serializer("url")
    def _serialised(self, url: str) -> str:
        return without_credentials(url)


class KeywordSettings(Strict):
    """Keywords of an item (RAGAR eq. 6): at most `n`, by the run's `llm`, or by an `endpoint` where one is given."""

    n: int = Field(8, ge=1)
    endpoint: Endpoint | None = None


class TagSettings(Strict):
    """Tags of an item (I-AM-G eqs. 2-4): at most `n` of its image and `n` of its text.

    Attributes
    ----------
    n
        How many tags of each.
    domain
        What the items are, which decides what the models are asked to look at.
    image
        What tags images: `clip-tagger`, the best phrase of each group of a vocabulary; ``{tagger: FILE}``, of your own one;
        `endpoint`, the service below, which must see images; else the folder or id of a vision-language model such as LLaVA.
    endpoint
        A service that tags texts, and images where `image` says so; null leaves texts to the run's `llm`.
    """

    n: int = Field(8, ge=1)
    domain: Literal["general", "movie", "news", "outfit"] = "general"
    image: str | Tagger = "clip-tagger"
    endpoint: Endpoint | None = None

    @model_validator(mode="after")
    def _an_endpoint_has_an_address(self) -> TagSettings:
        if self.image == "endpoint" and self.endpoint is None:
            raise ValueError("image: endpoint asks for a block `endpoint`")
        return self
