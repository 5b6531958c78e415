/** Joins what two people changed since the version that both know. Pure. */
import { stringify } from '../api/exact'
import type { Flow, FlowNode } from '../model/graph'
import type { Marks } from '../model/marks'

export type Positions = Record<string, { x: number; y: number }>
export type Layout = { positions: Positions; marks: Marks }
/** The names of what each side changed; `both`: what each changed in its own way. */
export type Merge = { flow: Flow; both: string[]; theirs: string[]; mine: string[] }
export type FieldClash = { id: string; field: string; mine: unknown; theirs: unknown }

export const same = (a: unknown, b: unknown) => a === b || stringify(a) === stringify(b)

type Named = Record<string, unknown>
const namesOf = (...all: Named[]) => new Set(all.flatMap(Object.keys))

function mergeNamed(base: Named, mine: Named, theirs: Named, prefersTheirs: boolean, found: Merge): Named {
  const kept: Named = {}
  for (const name of namesOf(theirs, mine)) {
    const [was, here, there] = [base[name], mine[name], theirs[name]]
    const byMe = !same(was, here)
    const byThem = !same(was, there)
    const isClash = byMe && byThem && !same(here, there)
    if (isClash) found.both.push(name)
    else if (byMe) found.mine.push(name)
    else if (byThem) found.theirs.push(name)
    const one = byMe && !(isClash && prefersTheirs) ? here : there
    if (one !== undefined) kept[name] = one
  }
  return kept
}

/** A step that one side removed and the other leads to stays, and counts as changed by both. */
function keepWhatIsLedTo(nodes: Named, mine: Flow, theirs: Flow, found: Merge) {
  const led = Object.values(nodes).flatMap((node) => {
    const { children, loopBody } = node as FlowNode
    return [...(children ?? []), ...(loopBody ?? [])]
  })
  for (const id of new Set(led)) {
    const gone = nodes[id] ? undefined : (mine.nodes[id] ?? theirs.nodes[id])
    if (!gone) continue
    nodes[id] = gone
    found.mine = found.mine.filter((one) => one !== id)
    found.theirs = found.theirs.filter((one) => one !== id)
    found.both.push(id)
    keepWhatIsLedTo(nodes, mine, theirs, found)
  }
}

export function mergeFlows(base: Flow, mine: Flow, theirs: Flow, prefersTheirs = false): Merge {
  const found: Merge = { flow: theirs, both: [], theirs: [], mine: [] }
  const nodes = mergeNamed(base.nodes, mine.nodes, theirs.nodes, prefersTheirs, found)
  keepWhatIsLedTo(nodes, mine, theirs, found)
  const rest = ({ nodes: _, ...others }: Flow): Named => others
  const around = mergeNamed(rest(base), rest(mine), rest(theirs), prefersTheirs, found)
  return { ...found, flow: { ...around, nodes: nodes as Flow['nodes'] } }
}

/** The fields that both changed in their own way, in the steps that clash. */
export function clashesIn(base: Flow, mine: Flow, theirs: Flow, ids: string[]): FieldClash[] {
  const fields = (node?: FlowNode): Named => ({ ...node, ...node?.payload, payload: undefined })
  return ids.flatMap((id) => {
    const [was, here, there] = [base.nodes[id], mine.nodes[id], theirs.nodes[id]]
    if (!here || !there) return []
    const [old, left, right] = [fields(was), fields(here), fields(there)]
    return [...namesOf(left, right)]
      .filter((name) => !same(left[name], right[name]) && !same(left[name], old[name]) && !same(right[name], old[name]))
      .map((field) => ({ id, field, mine: left[field], theirs: right[field] }))
  })
}

const fresh = (taken: object, stem: string) => {
  let n = 1
  while (stem + n in taken) n++
  return stem + n
}

/** Of a note or group that both changed, both are kept: theirs beside mine. */
function mergeMarks<T extends object>(base: Record<string, T>, mine: Record<string, T>, theirs: Record<string, T>) {
  const found: Merge = { flow: { nodes: {} }, both: [], theirs: [], mine: [] }
  const kept = mergeNamed(base, mine, theirs, false, found) as Record<string, T>
  for (const id of found.both) {
    const [here, there] = [mine[id], theirs[id]]
    if (!here && there) kept[id] = there
    else if (there) kept[fresh({ ...base, ...kept }, id.replace(/\d+$/, ''))] = 'y' in there ? besides(there) : there
  }
  return kept
}

const ONE_NOTE = 130
const besides = <T extends object>(note: T): T => ({ ...note, y: (note as T & { y: number }).y + ONE_NOTE })

/** Places and notes hinder nobody: of a step that both moved, mine is kept. */
export function mergeLayouts(base: Layout, mine: Layout, theirs: Layout): Layout {
  const found: Merge = { flow: { nodes: {} }, both: [], theirs: [], mine: [] }
  return {
    positions: mergeNamed(base.positions, mine.positions, theirs.positions, false, found) as Positions,
    marks: {
      notes: mergeMarks(base.marks.notes, mine.marks.notes, theirs.marks.notes),
      groups: mergeMarks(base.marks.groups, mine.marks.groups, theirs.marks.groups),
    },
  }
}
