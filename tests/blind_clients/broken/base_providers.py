"""What the four providers document, each as a mixin of a client."""

import uuid
from typing import Any
from urllib.parse import quote

from base_core import BadAnswer, Client, Reply, State, describe

DONE = ("completed", "succeeded", "success")
FAILED = ("failed", "fail", "error", "cancelled", "canceled", "expired", "rejected")


def kind_of(word: Any) -> str:
    """wait, done or failed; an unknown word means that the job goes on."""
    if not isinstance(word, str) or not word.strip():
        raise BadAnswer(f"no status: {describe(word)}")
    word = word.strip().lower()
    return "done" if word in DONE else "failed" if word in FAILED else "wait"


def same(job: str, told: Any) -> None:
    """Refuse an answer about another job."""
    if told is not None and told != job:
        raise BadAnswer(f"an answer about another job: {describe(told)}")


def videos(items: Any) -> list[str]:
    """The addresses of the videos among a job's outputs."""
    found = [item for item in items or [] if isinstance(item, dict) and isinstance(item.get("url"), str)]
    return [item["url"] for item in found if item["url"] and item.get("type") in (None, "video")]


class Runcomfy(Client):
    """A job has a status and a result; a job that failed is completed, too."""

    default_model = "happyhorse/happyhorse-1.0/image-to-video"

    def submit_path(self) -> str:
        return f"/v1/models/{quote(self.model or self.default_model)}"

    def accepted(self, data: Any) -> Any:
        return data["request_id"]

    def status_path(self, job: str) -> str:
        return f"/v1/requests/{quote(job, safe='')}/status"

    def result_path(self, job: str) -> str:
        return f"/v1/requests/{quote(job, safe='')}/result"

    def read_state(self, job: str, data: Any) -> State:
        same(job, data.get("request_id"))
        kind = kind_of(data["status"])
        if "output" not in data:
            return State(kind, reason=describe(data.get("error") or data.get("status")))
        output = data["output"] or {}
        urls = [output.get("video"), *(output.get("videos") or [])]
        return State(kind, [url for url in urls if isinstance(url, str) and url], describe(data.get("error")))

    def ask(self, job: str) -> Reply:
        reply = super().ask(job)
        if self.status_of(reply) == 200 and self.state(job, reply).kind == "done":
            return self.call("GET", self.base + self.result_path(job), self.headers())
        return reply


class Vtrix(Client):
    """One address per job, with the output or the error in it."""

    def submit_path(self) -> str:
        return "/model/v1/generation"

    def accepted(self, data: Any) -> Any:
        return data["id"]

    def status_path(self, job: str) -> str:
        return f"/model/v1/generation/task/{quote(job, safe='')}"

    def read_state(self, job: str, data: Any) -> State:
        same(job, data.get("id"))
        contents = [part for item in data.get("output") or [] for part in (item or {}).get("content") or []]
        return State(kind_of(data["status"]), videos(contents), describe(data.get("error")))


class Runflow(Client):
    """A run has a status code and a failure code."""

    default_model = "alibaba/happy-horse/image-to-video"

    def submit_path(self) -> str:
        return f"/v1/models/{quote(self.model or self.default_model)}/runs"

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        request = request if "input" in request else {"input": request}
        return {**request, "callback_url": self.callback.url} if self.callback else request

    def accepted(self, data: Any) -> Any:
        return data["id"]

    def status_path(self, job: str) -> str:
        return f"/v1/runs/{quote(job, safe='')}"

    def read_state(self, job: str, data: Any) -> State:
        same(job, data.get("id"))
        output = data.get("output") or {}
        reason = f"{data.get('failure_code')}: {describe(data.get('failure_message'))}"
        return State(kind_of(data["status_code"]), videos(output.get("outputs")), reason)


class Hiapi(Client):
    """Everything is in an envelope, and a submission is safe to repeat with its idempotency key."""

    idempotent = True

    def submit_path(self) -> str:
        return "/v1/tasks"

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        return {**request, "callback": {"url": self.callback.url, "when": "final"}} if self.callback else request

    def submit_headers(self, request: dict[str, Any]) -> dict[str, str]:
        return {**super().submit_headers(request), "Idempotency-Key": str(uuid.uuid4())}

    def status_of(self, reply: Reply) -> int:
        try:
            code = self.json(reply)["code"]
        except (BadAnswer, KeyError, TypeError, IndexError):
            return reply.status
        return code if reply.status == 200 and isinstance(code, int) and 400 <= code < 600 else reply.status

    def accepted(self, data: Any) -> Any:
        return data["data"]["taskId"]

    def status_path(self, job: str) -> str:
        return f"/v1/tasks/{quote(job, safe='')}"

    def read_state(self, job: str, data: Any) -> State:
        data = data["data"]
        same(job, data.get("taskId"))
        return State(kind_of(data["status"]), videos(data.get("output")), describe(data.get("error")))
