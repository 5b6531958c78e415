/** What a result will have, by its schema: a value for each field, whose leaves are the names of their kinds. */
import type { Json } from '../api/client'
import type { Spec } from '../api/queries'
import { type Flow, triggersOf } from '../model/graph'
import type { Schema } from './schema'

type Whole = Schema & { $defs?: Record<string, Schema>; $ref?: string; items?: Schema }
const DEEPEST = 5

export function shapeOf(schema: Whole | null | undefined): unknown {
  const defs = schema?.$defs ?? {}
  const of = (one: Whole, depth: number): unknown => {
    const found = one.$ref ? defs[one.$ref.replace('#/$defs/', '')] : one.anyOf?.find((form) => form.type !== 'null')
    if (found && depth) return of(found, depth - 1)
    if (one.properties && depth) {
      const fields = Object.entries(one.properties).map(([name, field]): [string, unknown] => [
        name,
        of(field, depth - 1),
      ])
      return Object.fromEntries(fields) as Json
    }
    if (one.type === 'array') return one.items && depth ? [of(one.items, depth - 1)] : []
    return one.type === 'object' ? {} : String(one.type ?? 'any')
  }
  return schema ? of(schema, DEEPEST) : undefined
}

/** The shapes of what an expression may name: earlier steps, and the event that starts the run. */
export function shapesOf(flow: Flow, upstream: string[], catalog: Record<string, Spec> = {}): Json {
  const nodes = Object.fromEntries(
    upstream.map((id) => [id, { result: shapeOf(catalog[flow.nodes[id]?.type ?? '']?.resultSchema) }]),
  )
  const trigger = triggersOf(flow)[0]
  const started = trigger === undefined ? undefined : flow.nodes[trigger]
  const event = shapeOf(catalog[started?.type ?? '']?.resultSchema) as Json | undefined
  const asked = started?.payload?.inputSchema as Schema | undefined
  const body = asked?.properties && (shapeOf(asked) as Json)
  return { ...nodes, $nodes: nodes, $trigger: { ...event, ...body, ...(body && { body }) } }
}
