/** What an expression may read, from the last run. Nothing is copied: a path is walked when it is asked for. */
import type { Json, Run } from '../api/client'
import { Exact } from '../api/exact'

/** `path`: of the step in the run that the values are of; in a loop, in its first item.
 * `shapes`: what the results will have, for what no run has given yet. */
export type Context = { roots: Json; runId?: string; path?: string; isTrial?: boolean; shapes?: Json }

/** `trial`: the event that the trigger was last tried with, which stands for the payload of a run; `tested`: results of
 * steps that were tested by themselves since. What is not known is left out: nothing is called `undefined`. */
export function contextOf(
  run: Run | null | undefined,
  upstream: string[],
  path = '',
  trial?: Json,
  tested: Record<string, { result: unknown }> = {},
): Context {
  const states = run?.executionState ?? {}
  const nodes: Json = {}
  const roots: Json = { $trigger: { body: trial ?? run?.payload ?? {} }, $nodes: nodes }
  for (const id of upstream) {
    const { result, status, input, error } = { ...states[id], ...tested[id] }
    const seen = Object.fromEntries(
      Object.entries({ result, status, input, error }).filter(([, one]) => one !== undefined),
    )
    nodes[id] = seen
    roots[id] = seen
  }
  const isTrial = trial !== undefined || upstream.some((id) => tested[id])
  return { roots, runId: run?.id, path, isTrial }
}

const STEP = /\.([A-Za-z_]\w*)|\[(\d+)\]|\["([^"]*)"\]/y

export function walk({ roots }: Context, path: string): { found: boolean; value?: unknown } {
  const head = path.match(/^\$?[A-Za-z_]\w*/)?.[0]
  if (!head || !(head in roots)) return { found: false }
  let value = roots[head]
  for (let at = head.length; at < path.length; at = STEP.lastIndex) {
    STEP.lastIndex = at
    const step = STEP.exec(path)
    const key = step?.[1] ?? step?.[2] ?? step?.[3]
    if (key === undefined || value === null || typeof value !== 'object' || value instanceof Exact)
      return { found: false }
    if (!(key in value) || (value as Json)[key] === undefined) return { found: false }
    value = (value as Json)[key]
  }
  return { found: true, value }
}

export function brief(value: unknown, longest = 60): string {
  if (value instanceof Exact) return value.text
  if (Array.isArray(value)) return `list of ${value.length}`
  if (value && typeof value === 'object') {
    const keys = Object.keys(value)
    return `{${keys.slice(0, 4).join(', ')}${keys.length > 4 ? ', …' : ''}}`
  }
  if (value === undefined) return ''
  const text = typeof value === 'string' ? `"${value}"` : String(value)
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text
}

/** A template with the last run's values, where every part is a plain path; null where only the server can tell. */
export function preview(context: Context, text: string): string | null {
  if (!text.includes('{{')) return null
  let isKnown = true
  const shown = text.replace(/\{\{\s*([\s\S]*?)\s*\}\}/g, (_, path: string) => {
    const { found, value } = walk(context, path)
    isKnown &&= found
    return typeof value === 'string' ? value : brief(value)
  })
  return isKnown ? shown : null
}
