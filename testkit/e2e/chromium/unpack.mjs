// Unpacks the Chromium of the npm package, and the libraries that it needs, into the folder given, beside each other.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";

const target = process.argv[2];
const packed = join(fileURLToPath(new URL("node_modules/@sparticuz/chromium/bin/", import.meta.url)));
const unpacked = (name) => brotliDecompressSync(readFileSync(join(packed, name)));

if (!existsSync(join(target, "chromium"))) {
  mkdirSync(target, { recursive: true });
  for (const name of ["al2023.tar.br", "swiftshader.tar.br"]) {
    execFileSync("tar", ["-x", "-C", target], { input: unpacked(name) });
  }
  writeFileSync(join(target, "chromium.new"), unpacked("chromium.br"), { mode: 0o755 });
  renameSync(join(target, "chromium.new"), join(target, "chromium"));
}
