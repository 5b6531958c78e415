// What the language services of editors say of workflow files. Reads {schema, jobs: [{language, text}]} from the standard
// input and writes, for each job, its diagnostics with the text that they mark and, if the text has a "‸", the
// completions there.
import { readFileSync } from "node:fs";
import vscodeJson from "vscode-json-languageservice";
import yaml from "yaml-language-server/out/server/src/languageservice/yamlLanguageService.js";
import yamlSettings from "yaml-language-server/out/server/src/yamlSettings.js";

const { getLanguageService: jsonService, TextDocument } = vscodeJson;
const { schema, jobs } = JSON.parse(readFileSync(0, "utf8"));
const uri = "http://127.0.0.1:8080/v1/schemas/definition.json"; // some files name it as `$schema`
const schemas = [{ uri, fileMatch: ["*"], schema }];
async function asked(url) {
  if (url !== uri) throw new Error(`unexpected request for ${url}`);
  return JSON.stringify(schema);
}

const json = jsonService({ schemaRequestService: asked });
json.configure({ validate: true, schemas });
const yamlService = yaml.getLanguageService({
  schemaRequestService: asked,
  workspaceContext: { resolveRelativePath: (relative) => relative },
  yamlSettings: new yamlSettings.SettingsState(),
});
yamlService.configure({ validate: true, completion: true, hover: true, schemas });

async function judge({ language, text }, number) {
  const at = text.indexOf("‸");
  const document = TextDocument.create(`file:///flow-${number}.${language}`, language, 1, text.replace("‸", ""));
  const parsed = language === "json" ? json.parseJSONDocument(document) : undefined;
  const found = parsed ? await json.doValidation(document, parsed) : await yamlService.doValidation(document, false);
  const diagnostics = found.map((one) => ({ message: one.message, text: document.getText(one.range) }));
  if (at < 0) return { diagnostics };
  const position = document.positionAt(at);
  const list = parsed
    ? await json.doComplete(document, position, parsed)
    : await yamlService.doComplete(document, position, false);
  const completions = list.items.map(({ label, documentation, insertText }) => [
    label.replaceAll('"', ""),
    { documentation: documentation?.value ?? documentation ?? "", insertText },
  ]);
  return { diagnostics, completions: Object.fromEntries(completions) };
}

const results = [];
for (const [number, job] of jobs.entries()) results.push(await judge(job, number)); // both keep documents by name
console.log(JSON.stringify(results));
