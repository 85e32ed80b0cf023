import time
from typing import Any

import requests


def generate(base_url: str, api_key: str, request: dict[str, Any]) -> str:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {api_key}"
    task = session.post(f"{base_url}/model/v1/generation", json=request).json()

    while task["status"] not in ("completed", "failed"):
        time.sleep(3)
        task = session.get(f"{base_url}/model/v1/generation/task/{task['id']}").json()
        print(task["status"])

    if task["status"] == "failed":
        raise Exception(task["error"]["message"])

    url = task["output"][0]["content"][0]["url"]
    with open("/tmp/output.mp4", "wb") as f:
        f.write(session.get(url).content)
    return "/tmp/output.mp4"
