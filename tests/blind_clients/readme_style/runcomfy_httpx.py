import time
from typing import Any

import httpx


def generate(base_url: str, api_key: str, request: dict[str, Any], model: str) -> bytes:
    headers = {"Authorization": f"Bearer {api_key}"}
    job = httpx.post(f"{base_url}/v1/models/{model}", json=request, headers=headers).json()
    print("submitted", job["request_id"])

    while True:
        status = httpx.get(job["status_url"], headers=headers).json()["status"]
        if status == "completed":
            break
        print(status)
        time.sleep(2)

    result = httpx.get(job["result_url"], headers=headers).json()
    return httpx.get(result["output"]["video"]).content
