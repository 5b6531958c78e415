"""Three durable steps a workflow with Temporal, 50 in flight. Runs in Temporal's own environment."""

import asyncio
import os
import sys
import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.peers import measuring

QUEUE = "bench"


@activity.defn
async def step(value: int) -> int:
    return value


@workflow.defn
class Steps:
    @workflow.run
    async def run(self, count: int) -> int:
        value = 1
        for _ in range(count):
            value = await workflow.execute_activity(step, value, start_to_close_timeout=timedelta(seconds=60))
        return value


def steps(client: Client, count: int) -> measuring.Workflow:
    async def call(number: int) -> object:
        return await client.execute_workflow(Steps.run, count, id=f"{number}-{uuid.uuid4()}", task_queue=QUEUE)

    return call


async def main(port: int, runs: int, server: int) -> None:
    client = await Client.connect(f"127.0.0.1:{port}")
    # the sandbox only finds mistakes; it costs time
    async with Worker(
        client, task_queue=QUEUE, workflows=[Steps], activities=[step], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        await measuring.say(measuring.measure(steps(client, 3), steps(client, 40), runs, measuring.own_and(server)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    os._exit(0)  # its native threads sometimes crash an interpreter that ends in order; everything is printed
