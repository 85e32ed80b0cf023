import json
import time
import urllib.request
from typing import Any


def call(url: str, api_key: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body else None
    headers = {"Authorization": "Bearer " + api_key, "Content-Type": "application/json"}
    return json.load(urllib.request.urlopen(urllib.request.Request(url, data, headers)))["data"]


def generate(base_url: str, api_key: str, request: dict[str, Any]) -> str:
    task_id = call(base_url + "/v1/tasks", api_key, request)["taskId"]
    while True:
        task = call(base_url + "/v1/tasks/" + task_id, api_key)
        if task["status"] in ("success", "fail"):
            break
        time.sleep(2)
    filename, _ = urllib.request.urlretrieve(task["output"][0]["url"], "/tmp/hiapi.mp4")
    return filename
