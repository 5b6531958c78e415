/** What a pasted text is: steps, a whole workflow, a cURL command, or the address of a contract. */
import type { Json } from '../api/client'
import { Exact, parse } from '../api/exact'
import type { Flow, FlowNode } from '../model/graph'
import { type Curl, readCurl } from './curl'

export type Pasted =
  | { kind: 'steps'; nodes: Record<string, FlowNode> }
  | { kind: 'curl'; curl: Curl }
  | { kind: 'contract'; address: string }

const MOST_CHARACTERS = 5_000_000

export async function readPasted(text: string): Promise<Pasted | null> {
  const trimmed = text.trim()
  if (!trimmed || trimmed.length > MOST_CHARACTERS) return null
  if (/^0x[0-9a-fA-F]{40}$/.test(trimmed)) return { kind: 'contract', address: trimmed }
  if (/^curl\s/.test(trimmed)) {
    const curl = readCurl(trimmed, parse)
    return curl && { kind: 'curl', curl }
  }
  const nodes = stepsOf(readJson(trimmed) ?? (await readYaml(trimmed)))
  return nodes && { kind: 'steps', nodes }
}

/** The nodes of copied steps, of a definition, or of a workflow's file. */
function stepsOf(found: unknown): Record<string, FlowNode> | null {
  if (typeof found !== 'object' || found === null) return null
  const file = found as Json
  const inner = (file.definition ?? (file.workflow as Json | undefined)?.definition ?? file) as Partial<Flow>
  const nodes = inner.nodes
  if (typeof nodes !== 'object' || nodes === null || Array.isArray(nodes)) return null
  const all = Object.values(nodes)
  return all.length && all.every((node) => typeof node?.type === 'string') ? nodes : null
}

function readJson(text: string): unknown {
  try {
    return parse(text)
  } catch {
    return null
  }
}

/** Loaded only when something is pasted that may be YAML; its numbers are as exact as those of JSON. */
async function readYaml(text: string): Promise<unknown> {
  if (!/^\s*[\w"'-]+\s*:/m.test(text)) return null
  const { isScalar, parseDocument, visit } = await import('yaml')
  const document = parseDocument(text, { version: '1.2' })
  if (document.errors.length) return null
  visit(document, {
    Scalar: (_, one) => {
      if (isScalar(one) && typeof one.value === 'number' && one.source && String(one.value) !== one.source)
        one.value = new Exact(one.source)
    },
  })
  return document.toJS({ maxAliasCount: 100 })
}
