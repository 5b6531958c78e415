// A small model on this machine, behind the chat completions of OpenAI: node server.mjs FILE.gguf THREADS
// An answer with `response_format` of type `json_schema` is held to that schema by a grammar. It prints its port.
import http from "node:http"
import {getLlama, LlamaChatSession, LlamaLogLevel} from "node-llama-cpp"

const threads = Number(process.argv[3])
const llama = await getLlama({gpu: false, build: "never", maxThreads: threads, logLevel: LlamaLogLevel.error})
const model = await llama.loadModel({modelPath: process.argv[2]})
const context = await model.createContext({contextSize: 4096, threads})
const grammars = new Map()

async function grammarOf(asked) {
  if (asked.response_format?.type !== "json_schema") return undefined
  const text = JSON.stringify(asked.response_format.json_schema.schema)
  if (!grammars.has(text)) grammars.set(text, await llama.createGrammarForJsonSchema(JSON.parse(text)))
  return grammars.get(text)
}

async function answer(asked) {
  const history = asked.messages.slice(0, -1).map(({role, content}) => {
    if (role === "assistant") return {type: "model", response: [content]}
    return {type: role, text: content}
  })
  const question = asked.messages.at(-1).content
  const sequence = context.getSequence()
  try {
    const session = new LlamaChatSession({contextSequence: sequence, autoDisposeSequence: false})
    session.setChatHistory(history)
    const said = await session.promptWithMeta(question, {
      grammar: await grammarOf(asked),
      maxTokens: asked.max_tokens,
      temperature: 0,
    })
    session.dispose()
    const wrote = model.tokenize(said.responseText).length
    const read = Math.max(1, sequence.nextTokenIndex - wrote)
    return {
      id: "local",
      object: "chat.completion",
      created: 1,
      model: asked.model,
      choices: [
        {
          index: 0,
          message: {role: "assistant", content: said.responseText},
          finish_reason: said.stopReason === "maxTokens" ? "length" : "stop",
        },
      ],
      usage: {prompt_tokens: read, completion_tokens: wrote, total_tokens: read + wrote},
    }
  } finally {
    sequence.dispose()
  }
}

let last = Promise.resolve()  // one question at a time
const server = http.createServer((request, response) => {
  const pieces = []
  request.on("data", (piece) => pieces.push(piece))
  request.on("end", () => {
    last = last.then(async () => {
      try {
        const found = await answer(JSON.parse(Buffer.concat(pieces).toString()))
        response.writeHead(200, {"content-type": "application/json"}).end(JSON.stringify(found))
      } catch (error) {
        response.writeHead(500, {"content-type": "text/plain"}).end(String(error))
      }
    })
  })
})
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({port: server.address().port})))
