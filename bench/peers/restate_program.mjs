// Workflows of 3 and of 40 durable steps for Restate: node program.mjs PORT HEALTH_PORT
import http from "node:http";
import * as restate from "@restatedev/restate-sdk";

const steps = (count) => async (ctx, value) => {
  for (let number = 0; number < count; number++) {
    value = await ctx.run(`step ${number}`, () => value);
  }
  return value;
};

const bench = restate.service({ name: "bench", handlers: { three: steps(3), forty: steps(40) } });
await restate.serve({ services: [bench], port: Number(process.argv[2]) });
http.createServer((_, answer) => answer.end("ok")).listen(Number(process.argv[3]), "127.0.0.1");
