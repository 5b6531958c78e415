/** What differs between two versions, money first. Pure. */
import { stringify } from '../api/exact'
import type { Flow } from '../model/graph'

export type Change = { path: string; before?: unknown; after?: unknown }
export type Kind = 'added' | 'removed' | 'changed'
export const TONE: Record<Kind, string> = { added: 'ok', removed: 'bad', changed: 'dust' }
export type Difference = { id: string; kind: Kind; changes: Change[] }

/** Amounts, then who is paid, then by which wallet; the rest comes after. */
const FIRST = [
  /amount|value|max|limit|slippage/i,
  /recipient|address|contract|spender|^payload\.to$/i,
  /connector|wallet/i,
]
export const weight = (path: string) => {
  const at = FIRST.findIndex((one) => one.test(path))
  return at < 0 ? FIRST.length : at
}

type Answer = { nodesAdded: string[]; nodesRemoved: string[]; nodesChanged: { nodeId: string; changes: Change[] }[] }

export function differencesOf(diff: Answer): Difference[] {
  const all: Difference[] = [
    ...diff.nodesChanged.map(({ nodeId, changes }) => ({
      id: nodeId,
      kind: 'changed' as const,
      changes: [...changes].sort((a, b) => weight(a.path) - weight(b.path)),
    })),
    ...diff.nodesAdded.map((id) => ({ id, kind: 'added' as const, changes: [] })),
    ...diff.nodesRemoved.map((id) => ({ id, kind: 'removed' as const, changes: [] })),
  ]
  const least = (one: Difference) => Math.min(FIRST.length, ...one.changes.map((change) => weight(change.path)))
  return all.sort((a, b) => least(a) - least(b))
}

/** Both versions in one graph: what was removed stays where it was. */
export function union(before: Flow, after: Flow): Flow {
  const nodes = { ...after.nodes }
  for (const [id, node] of Object.entries(before.nodes)) if (!nodes[id]) nodes[id] = node
  for (const [id, node] of Object.entries(before.nodes)) {
    const here = nodes[id]
    const gone = (list?: string[]) => (list ?? []).filter((child) => !after.nodes[child])
    if (!here || here === node) continue
    const children = [...new Set([...(here.children ?? []), ...gone(node.children)])]
    const loopBody = [...new Set([...(here.loopBody ?? []), ...gone(node.loopBody)])]
    nodes[id] = { ...here, children, ...(loopBody.length && { loopBody }) }
  }
  return { ...after, nodes }
}

export const shown = (value: unknown) =>
  value === undefined ? '–' : typeof value === 'string' ? value : stringify(value)
