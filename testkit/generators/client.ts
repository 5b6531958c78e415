// Calls a real server by the types that openapi-typescript made: creates a workflow, gets it, runs it, lists its runs
// and reads the stream. Prints what the test compares.
import type { operations } from "./api.js";

type Json<Content> = Content extends { content: { "application/json": infer Body } } ? Body : never;
type Answer<Name extends keyof operations> = Json<operations[Name]["responses"] extends { 200: infer Ok } ? Ok : never>;
type Body<Name extends keyof operations> = Json<NonNullable<operations[Name]["requestBody"]>>;
type Failure = Json<operations["get_workflow"]["responses"]["404"]>;

const { DUSTRUN_SERVER: server, DUSTRUN_API_KEY: key } = process.env;

async function ask<Reply>(method: string, path: string, body?: unknown): Promise<Reply> {
  const response = await fetch(`${server}${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return (await response.json()) as Reply;
}

const wanted: Body<"create_workflow"> = {
  name: "From TypeScript",
  description: "",
  definition: { nodes: { root: { type: "manual" } }, triggerNodeIds: ["root"] },
};
const created = await ask<Answer<"create_workflow">>("POST", "/v1/workflows", wanted);
const id: string = created.data.id;
const read = await ask<Answer<"get_workflow">>("GET", `/v1/workflows/${id}`);
const run = await ask<Answer<"run_workflow">>("POST", `/v1/workflows/${id}/run`, {});
const runId: string = run.data.runId;
const stream = await fetch(`${server}/v1/runs/${runId}/stream`, { headers: { authorization: `Bearer ${key}` } });
const text: operations["stream_run"]["responses"]["200"]["content"]["text/event-stream"] = await stream.text();
const runs = await ask<Answer<"list_runs">>("GET", `/v1/runs?workflowId=${id}`);
const missing = await ask<Failure>("GET", "/v1/workflows/wf_01m8brt9hae4de3w6f0w3c1rmr");
const code: number = missing.code;

console.log(
  JSON.stringify({
    name: read.data.name,
    runs: runs.data.items.map((one) => [one.id === runId, one.status]),
    last: text.includes("event: run_finished"),
    code,
  }),
);
