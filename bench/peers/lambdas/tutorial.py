"""FastAPI and pydantic behind Mangum, as a tutorial would write it."""

from mangum import Mangum

from bench.peers.fastapi_pydantic import app

handler = Mangum(app, lifespan="off")
