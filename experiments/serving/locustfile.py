"""The same load by Locust, an independent load generator: requests of users who each wait for their answers (a closed loop).

``measure.py`` builds the store and checks every answer in an open loop; this says whether another client sees the same times.
Locust needs more of a core a request than the service does, so that one of its processes beside it on two cores asks about
1,000 times a second at most.

    pip install locust
    RECGEN_SERVE='{"folder": "runs/serving/1000000", "keys": null, "rate": 0, "explore": 0}' \\
        python -m uvicorn --factory recgen.serving.main:create --port 8137 --log-level error --no-access-log &
    locust -f experiments/serving/locustfile.py --headless --users 50 --spawn-rate 50 --run-time 20s \\
        --host http://127.0.0.1:8137
"""

from __future__ import annotations

import random

from locust import FastHttpUser, task

CREATIVES, ITEMS_A_USER = 1_000_000, 10


class Visitor(FastHttpUser):
    """Asks for creatives of users and items drawn at random, of which a tenth has none."""

    def wait_time(self) -> float:
        """Wait long enough that fifty visitors together ask about 1,000 times a second, and not all at once."""
        return random.expovariate(20)

    @task
    def creative(self) -> None:
        """Ask for one, and compare the answer's user and item with what was asked."""
        number, known = random.randrange(CREATIVES), random.random() < 0.9
        user, item = (
            f"u{number // ITEMS_A_USER}",
            f"i{number % ITEMS_A_USER + (0 if known else ITEMS_A_USER)}",
        )
        path = f"/v1/creative?user={user}&item={item}"
        with self.client.get(path, name="/v1/creative", catch_response=True) as answer:
            found = answer.json()
            if (found["user"], found["item"], found["recipe"] is not None) != (user, item, known):
                answer.failure(f"another answer: {found}")
