"""The count as FastAPI has it, with a constant for an answer."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/v1/{project_id}/app-server-sub-jobs/actions/count")
async def count(project_id: str, status: str | None = None, job_type: str | None = None, job_id: str | None = None):
    return {"count": 0}
