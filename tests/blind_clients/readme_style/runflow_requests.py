from typing import Any

import requests


def generate(base_url: str, api_key: str, request: dict[str, Any]) -> bytes:
    response = requests.post(
        f"{base_url}/v1/run/alibaba/happy-horse/image-to-video",
        headers={"Authorization": f"Bearer {api_key}"},
        json=request,
    )
    data = response.json()
    print(data["video"]["url"])
    video = requests.get(data["video"]["url"])
    return video.content
