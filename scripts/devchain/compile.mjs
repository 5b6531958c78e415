// Compiles contracts/*.sol into contracts.json, and the product's own Prober.sol for a look: node scripts/devchain/compile.mjs (after scripts/node-setup scripts/devchain).
// The result is committed, so that a test needs no compiler; the settings keep it the same on every machine.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import solc from "solc";

const folder = new URL("contracts/", import.meta.url);
const sources = Object.fromEntries(
  readdirSync(folder)
    .filter((name) => name.endsWith(".sol"))
    .map((name) => [name, { content: readFileSync(new URL(name, folder), "utf8") }]),
);
const prober = new URL("../../src/dustrun/chain/simulate/Prober.sol", import.meta.url);
sources["Prober.sol"] = { content: readFileSync(prober, "utf8") };
const settings = {
  evmVersion: "paris",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};
const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const errors = (output.errors ?? []).filter((problem) => problem.severity === "error");
if (errors.length > 0) {
  console.error(errors.map((problem) => problem.formattedMessage).join("\n"));
  process.exit(1);
}
const compiled = {};
for (const file of Object.values(output.contracts)) {
  for (const [name, { abi, evm }] of Object.entries(file)) {
    if (evm.bytecode.object === "") continue;
    compiled[name] = { abi, bytecode: `0x${evm.bytecode.object}` };
    if (name === "Prober") compiled[name].runtime = `0x${evm.deployedBytecode.object}`;
  }
}
const lines = Object.entries(compiled).map(([name, contract]) => `${JSON.stringify(name)}: ${JSON.stringify(contract)}`);
writeFileSync(new URL("contracts.json", import.meta.url), `{\n${lines.join(",\n")}\n}\n`);
console.log(`${lines.length} contracts`);
