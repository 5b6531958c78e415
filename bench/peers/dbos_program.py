"""Three durable steps a workflow with DBOS, 50 in flight. Runs in DBOS's own environment."""

import asyncio
import json
import resource
import sys
import time

from dbos import DBOS, DBOSConfig

from bench.peers import measuring


@DBOS.step()
async def step(value: int) -> int:
    return value


@DBOS.workflow()
async def three(value: int) -> int:
    return await step(await step(await step(value)))


@DBOS.workflow()
async def forty(value: int) -> int:
    for _ in range(40):
        value = await step(value)
    return value


async def main(url: str, runs: int, started_at: float) -> None:
    DBOS(config=DBOSConfig(name="bench", system_database_url=url, log_level="ERROR"))
    DBOS.launch()
    idle_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"readyS": round(time.time() - started_at, 2), "idleRssMib": round(idle_mib, 1)}), flush=True)
    await measuring.say(measuring.measure(three, forty, runs, time.process_time))
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
