import asyncio
from typing import Any

import aiohttp


async def generate(base_url: str, api_key: str, request: dict[str, Any]) -> bytes:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {api_key}"}) as session:
        async with session.post(f"{base_url}/v1/tasks", json=request) as response:
            task_id = (await response.json())["data"]["taskId"]

        for _ in range(120):
            await asyncio.sleep(5)
            async with session.get(f"{base_url}/v1/tasks/{task_id}") as response:
                task = (await response.json())["data"]
            if task["status"] == "success":
                async with session.get(task["output"][0]["url"]) as response:
                    return await response.read()
            if task["status"] == "fail":
                raise RuntimeError(task["error"])

    raise TimeoutError("video generation timed out")
