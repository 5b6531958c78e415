/** The graph of a definition, as the canvas and the outline read it. */
import { words } from '../words'
import { readable } from './amounts'

export type FlowNode = {
  type: string
  payload?: Record<string, unknown>
  children?: string[]
  loopBody?: string[]
  branch?: string | null
  titleOverride?: string | null
  connector?: { type: string; id: string } | null
  pinned?: unknown
  [field: string]: unknown
}
export type Flow = { nodes: Record<string, FlowNode>; triggerNodeIds?: string[]; [field: string]: unknown }

export type Step = { id: string; depth: number; branch?: string; loop?: string }

/** The triggers: those that are named, else `root`, else every node without a parent. */
export function triggersOf(flow: Flow): string[] {
  const named = (flow.triggerNodeIds ?? []).filter((id) => id in flow.nodes)
  if (named.length) return named
  if ('root' in flow.nodes) return ['root']
  const reached = new Set(Object.values(flow.nodes).flatMap((n) => [...(n.children ?? []), ...(n.loopBody ?? [])]))
  return Object.keys(flow.nodes).filter((id) => !reached.has(id))
}

/** What a person calls a step. */
export const nameOf = (flow: Pick<Flow, 'nodes'> | null | undefined, id: string) =>
  flow?.nodes[id]?.titleOverride || readable(id)

/** Where something happened, as `each[3].pay`, in names: `Each, item 4 › Send money`. */
export const pathNames = (flow: Pick<Flow, 'nodes'> | null | undefined, path: string) =>
  path
    .split('.')
    .map((part) => {
      const [, id = part, item] = part.match(/^(.*?)\[(\d+)\]$/) ?? []
      return item === undefined ? nameOf(flow, id) : words.step.placeOf(nameOf(flow, id), Number(item) + 1)
    })
    .join(' › ')

/** The two ways of a question are yes and no; other branches have names of their own. */
export const branchName = (branch: string) => words.branches.get(branch) ?? branch

/** Steps in reading order; nodes that nothing leads to come last, so that every node is shown. */
export function outline(flow: Flow): Step[] {
  const steps: Step[] = []
  const seen = new Set<string>()
  const visit = (id: string, depth: number, loop?: string) => {
    const node = flow.nodes[id]
    if (!node || seen.has(id)) return
    seen.add(id)
    steps.push({ id, depth, branch: node.branch ?? undefined, loop })
    for (const child of node.loopBody ?? []) visit(child, depth + 1, id)
    for (const child of node.children ?? []) visit(child, depth + (flow.nodes[child]?.branch ? 1 : 0), loop)
  }
  for (const id of triggersOf(flow)) visit(id, 0)
  for (const id of Object.keys(flow.nodes)) visit(id, 0)
  return steps
}

/** Which loop each node is in. */
export function loopsOf(flow: Flow): Record<string, string> {
  const loops: Record<string, string> = {}
  const mark = (id: string, loop: string) => {
    if (loops[id] || !flow.nodes[id]) return
    loops[id] = loop
    for (const child of flow.nodes[id].children ?? []) mark(child, loop)
  }
  for (const [id, node] of Object.entries(flow.nodes)) for (const child of node.loopBody ?? []) mark(child, id)
  return loops
}

/** Where a step is in a run; in the first item of each loop around it. */
export function pathOf(flow: Flow, id: string): string {
  const loops = loopsOf(flow)
  let path = id
  const seen = new Set<string>()
  for (let loop = loops[id]; loop && !seen.has(loop); loop = loops[loop]) {
    seen.add(loop)
    path = `${loop}[0].${path}`
  }
  return path
}

/** Every node that comes before one: what its expressions may read, nearest first. */
export function before(flow: Flow, id: string): string[] {
  const parents: Record<string, string[]> = {}
  for (const [from, node] of Object.entries(flow.nodes)) {
    for (const to of [...(node.children ?? []), ...(node.loopBody ?? [])]) {
      parents[to] ??= []
      parents[to]?.push(from)
    }
  }
  const seen = new Set<string>()
  const todo = [...(parents[id] ?? [])]
  for (let next = todo.shift(); next !== undefined; next = todo.shift()) {
    if (seen.has(next) || next === id) continue
    seen.add(next)
    todo.push(...(parents[next] ?? []))
  }
  return [...seen]
}
