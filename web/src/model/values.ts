/** The values that a step can take from what comes before it: a list of their paths, as expressions name them. Pure. */
import { Exact } from '../api/exact'

/** `step`: whose value it is; undefined: what started the run. `isShape`: `value` is the name of its kind. */
export type Leaf = { path: string; step?: string; keys: string[]; value: unknown; isShape: boolean }
type Roots = Record<string, unknown>

const MOST = 200
const DEEPEST = 6

const isMap = (value: unknown): value is Roots =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Exact)

export const keyed = (path: string, key: string) =>
  /^\d+$/.test(key)
    ? `${path}[${key}]`
    : /^[A-Za-z_]\w*$/.test(key)
      ? `${path}.${key}`
      : `${path}[${JSON.stringify(key)}]`

/** Nothing has a value there: no run has given one, and a shape says more. */
export const isNothing = (value: unknown) =>
  value === undefined ||
  value === null ||
  (typeof value === 'object' && !(value instanceof Exact) && !Object.keys(value).length)

/** What is inside of a value, nearest first; lists are one value, and their first item is looked into. */
function within(path: string, value: unknown, isShape: boolean, step?: string): Leaf[] {
  const found: Leaf[] = []
  let level: { path: string; keys: string[]; value: unknown }[] = [{ path, keys: [], value }]
  for (let depth = 0; depth < DEEPEST && level.length; depth++) {
    const next: typeof level = []
    for (const one of level) {
      if (found.length >= MOST) return found
      if (one.keys.length) found.push({ ...one, step, isShape })
      const isList = Array.isArray(one.value)
      if (!isList && !isMap(one.value)) continue
      const first = isList ? (one.value as unknown[]).slice(0, 1) : (one.value as Roots)
      if (isList && !isMap((first as unknown[])[0])) continue
      for (const key in first) {
        if (next.length + found.length >= MOST) break
        const value = (first as Roots)[key]
        if (value !== undefined) next.push({ path: keyed(one.path, key), keys: [...one.keys, key], value })
      }
    }
    level = next
  }
  return found
}

/** The values of earlier steps, nearest step first, then those of the event that starts the run. */
export function leavesOf(roots: Roots, shapes: Roots, steps: readonly string[]): Leaf[] {
  const known = (roots.$nodes ?? {}) as Record<string, Roots | undefined>
  const shaped = (shapes.$nodes ?? {}) as Record<string, Roots | undefined>
  const found = steps.flatMap((step) => {
    const value = known[step]?.result
    const isShape = isNothing(value)
    return within(keyed('$nodes', step).concat('.result'), isShape ? shaped[step]?.result : value, isShape, step)
  })
  const event = (roots.$trigger as Roots | undefined)?.body
  const isShape = isNothing(event)
  const started = isShape ? (shapes.$trigger as Roots | undefined)?.body : event
  return [...found, ...within('$trigger.body', started, isShape)]
}

const plain = (text: string) => text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '')

/** The value that a name means: the nearest whose last part, or whose parts together, are called so. */
export function named(leaves: readonly Leaf[], name: string): Leaf | undefined {
  const asked = plain(name)
  if (!asked) return undefined
  const names = (one: Leaf) => one.keys.filter((key) => !/^\d+$/.test(key))
  return leaves.find((one) => names(one).some((_, at, all) => plain(all.slice(at).join('')) === asked))
}
