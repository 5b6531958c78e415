// Asks the search of the documentation site as a browser does: `node site_search.mjs WORKER INDEX < questions`, a JSON list.
// Writes the pages that each finds, best first.
import { readFileSync } from "node:fs";
import vm from "node:vm";

const [worker, index] = process.argv.slice(2);
const questions = JSON.parse(readFileSync(0, "utf8"));
const handlers = [];
const replies = [];
const self = {
  addEventListener: (_, handler) => handlers.push(handler),
  postMessage: (message) => replies.shift()(message),
  location: { href: "http://127.0.0.1/worker.js" },
};
Object.assign(self, { self, console });
vm.runInContext(readFileSync(worker, "utf8"), vm.createContext(self));
const ask = (data) =>
  new Promise((resolve) => {
    replies.push(resolve);
    for (const handler of handlers) handler({ data });
  });
await ask({ type: 0, data: { ...JSON.parse(readFileSync(index, "utf8")), options: {} } });
const found = [];
for (const question of questions) {
  const { data } = await ask({ type: 2, data: question });
  found.push((data.items ?? data).map((group) => group[0].location.split("#")[0]));
}
console.log(JSON.stringify(found));
