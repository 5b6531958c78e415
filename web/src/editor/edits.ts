/** Changes of a definition. Pure: each gives a new definition and leaves the old one as it was. */
import type { Spec } from '../api/queries'
import { before, type Flow, type FlowNode } from '../model/graph'

const camel = (type: string) => type.replace(/[^A-Za-z0-9]+(.)?/g, (_, c?: string) => c?.toUpperCase() ?? '')

/** An id that expressions can name, and that no other node has. */
export function freshId(flow: Flow, type: string): string {
  const stem = camel(type).replace(/^[^A-Za-z]+/, '') || 'step'
  if (!flow.nodes[stem]) return stem
  for (let n = 2; ; n++) if (!flow.nodes[stem + n]) return stem + n
}

const withNode = (flow: Flow, id: string, node: FlowNode): Flow => ({ ...flow, nodes: { ...flow.nodes, [id]: node } })

export const patchNode = (flow: Flow, id: string, part: Partial<FlowNode>): Flow => {
  const node = { ...flow.nodes[id], ...part } as FlowNode
  for (const [key, value] of Object.entries(part)) if (value === undefined) delete node[key]
  return withNode(flow, id, node)
}

export function setField(flow: Flow, id: string, field: string, value: unknown): Flow {
  const payload = { ...flow.nodes[id]?.payload }
  if (value === undefined) delete payload[field]
  else payload[field] = value
  return patchNode(flow, id, { payload })
}

/** `before`: on the way from `after` to that one. */
export type Place = { after: string | null; branch?: string; inLoop?: boolean; before?: string }

/** Adds a node. After a node with one way on it comes in between; on a branch it is one more beginning of that branch. */
export function addNode(flow: Flow, type: string, place: Place): { flow: Flow; id: string } {
  const id = freshId(flow, type)
  const parent = place.after === null ? undefined : flow.nodes[place.after]
  if (!parent || place.after === null) {
    const isTrigger = !Object.keys(flow.nodes).length
    const next = withNode(flow, id, { type, payload: {}, children: [] })
    return { flow: isTrigger ? { ...next, triggerNodeIds: [id] } : next, id }
  }
  if (place.inLoop) {
    const next = withNode(flow, id, { type, payload: {}, children: [] })
    return { flow: patchNode(next, place.after, { loopBody: [...(parent.loopBody ?? []), id] }), id }
  }
  const children = parent.children ?? []
  const child = place.before === undefined ? undefined : flow.nodes[place.before]
  if (child && place.before !== undefined && children.includes(place.before)) {
    const { branch, ...rest } = child // the new one begins the branch
    const placed: FlowNode = { type, payload: {}, children: [place.before], ...(branch && { branch }) }
    const next = withNode(withNode(flow, place.before, rest as FlowNode), id, placed)
    return {
      flow: patchNode(next, place.after, { children: children.map((one) => (one === place.before ? id : one)) }),
      id,
    }
  }
  if (place.branch !== undefined) {
    const next = withNode(flow, id, { type, payload: {}, branch: place.branch, children: [] })
    return { flow: patchNode(next, place.after, { children: [...children, id] }), id }
  }
  const only = children.length === 1 ? children[0] : undefined
  const isBetween = only !== undefined && !flow.nodes[only]?.branch
  const next = withNode(flow, id, { type, payload: {}, children: isBetween ? [only] : [] })
  return { flow: patchNode(next, place.after, { children: isBetween ? [id] : [...children, id] }), id }
}

/** A step that acts on a chain begins with that of the steps before it, if that is written out, else with the only one that is
 * served. */
export function onSameChain(flow: Flow, id: string, spec: Spec, only?: number): Flow {
  const fields = (spec.payloadSchema as { properties?: object } | null | undefined)?.properties ?? {}
  const chains = before(flow, id).map((one) => flow.nodes[one]?.payload?.chainId)
  const chain = chains.find((one) => typeof one === 'number') ?? only
  return 'chainId' in fields && chain !== undefined ? setField(flow, id, 'chainId', chain) : flow
}

/** Removes nodes; what came after a removed node comes after its parents. */
export function removeNodes(flow: Flow, ids: string[]): Flow {
  let next = flow
  for (const id of ids) {
    const gone = next.nodes[id]
    if (!gone) continue
    const heirs = (gone.children ?? []).filter((child) => !next.nodes[child]?.branch)
    const replace = (list?: string[]) =>
      list?.includes(id) ? [...new Set(list.flatMap((one) => (one === id ? heirs : [one])))] : list
    const nodes: Record<string, FlowNode> = {}
    for (const [key, node] of Object.entries(next.nodes)) {
      if (key === id) continue
      const children = replace(node.children)
      const loopBody = replace(node.loopBody)
      const isSame = children === node.children && loopBody === node.loopBody
      nodes[key] = isSame ? node : { ...node, ...(children && { children }), ...(loopBody && { loopBody }) }
    }
    for (const heir of heirs) if (gone.branch && nodes[heir]) nodes[heir] = { ...nodes[heir], branch: gone.branch }
    next = { ...next, nodes }
    if (next.triggerNodeIds) next = { ...next, triggerNodeIds: next.triggerNodeIds.filter((one) => one !== id) }
  }
  return next
}

/** Whether a way from one node to another would make a circle. */
export function reaches(flow: Flow, from: string, to: string, seen = new Set<string>()): boolean {
  if (from === to) return true
  if (seen.has(from)) return false
  seen.add(from)
  const node = flow.nodes[from]
  return [...(node?.children ?? []), ...(node?.loopBody ?? [])].some((child) => reaches(flow, child, to, seen))
}

export function connect(flow: Flow, from: string, to: string): Flow {
  const children = flow.nodes[from]?.children ?? []
  if (children.includes(to) || reaches(flow, to, from)) return flow
  return patchNode(flow, from, { children: [...children, to] })
}

export const disconnect = (flow: Flow, from: string, to: string): Flow =>
  patchNode(flow, from, { children: (flow.nodes[from]?.children ?? []).filter((child) => child !== to) })

// How an expression names a node: `$nodes.id`, `$nodes["id"]`, `$run.resumeUrl("id")`, or the id by itself.
const NAMES =
  /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(\$(?:nodes|for)\.)(\w+)|(\$(?:nodes|for)\[\s*["']|\bresumeUrl\(\s*["'])([\w-]+)|()(?<![\w$.])([A-Za-z_]\w*)(?=\s*[.[])/g

function renamedIn(expression: string, ids: Record<string, string>): string {
  return expression.replace(NAMES, (whole, ...groups: (string | undefined)[]) => {
    for (const at of [0, 2, 4]) {
      const id = groups[at + 1]
      if (id !== undefined) return `${groups[at]}${ids[id] ?? id}`
    }
    return whole
  })
}

/** The settings of a step with its expressions changed; `isBare`: a text is an expression without braces. */
function withExpressions(value: unknown, change: (expression: string) => string, isBare = false): unknown {
  if (typeof value === 'string') return isBare ? change(value) : value.replace(/\{\{[\s\S]*?\}\}/g, change)
  if (Array.isArray(value)) return value.map((one) => withExpressions(one, change, isBare))
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value
  const each = ([key, one]: [string, unknown]) => [key, withExpressions(one, change, key === 'expression')]
  return Object.fromEntries(Object.entries(value).map(each))
}

// Texts in quotes, which name nothing, and how an expression names a field of what started the run.
const ASKED = /(\$trigger\.body(?:\.|\[\s*(["'])))(\w+)\b(?:\2(?=\s*\]))?|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g

/** A field of the form that starts the run gets another name, in all that uses it. */
export function renameAsked(flow: Flow, from: string, to: string): Flow {
  const change = (expression: string) =>
    expression.replace(ASKED, (whole, before?: string, quote = '', name?: string) =>
      before !== undefined && name === from ? `${before}${to}${whole.endsWith(quote) ? quote : ''}` : whole,
    )
  const each = ([id, node]: [string, FlowNode]) => [
    id,
    {
      ...(withExpressions({ ...node, pinned: undefined }, change) as FlowNode),
      ...('pinned' in node && { pinned: node.pinned }),
    },
  ]
  const nodes = Object.fromEntries(Object.entries(flow.nodes).map(each)) as Flow['nodes']
  for (const node of Object.values(nodes)) if (node.pinned === undefined) delete node.pinned
  return { ...flow, nodes }
}

/** Copies with new ids; ways among them are kept, and so is what their expressions say of each other. */
export function paste(flow: Flow, copied: Record<string, FlowNode>): { flow: Flow; ids: string[] } {
  let next = flow
  const ids: Record<string, string> = {}
  for (const [old, node] of Object.entries(copied)) {
    const id = next.nodes[old] ? freshId(next, old.replace(/\d+$/, '')) : old
    ids[old] = id
    next = withNode(next, id, node)
  }
  const changed = Object.fromEntries(Object.entries(ids).filter(([old, id]) => old !== id))
  const kept = (list?: string[]) => list?.flatMap((child) => ids[child] ?? [])
  for (const [old, id] of Object.entries(ids)) {
    const node = copied[old] as FlowNode
    next = patchNode(next, id, {
      ...(withExpressions({ ...node, pinned: undefined }, (one) => renamedIn(one, changed)) as FlowNode),
      pinned: node.pinned,
      children: kept(node.children) ?? [],
      ...(node.loopBody && { loopBody: kept(node.loopBody) }),
    })
  }
  return { flow: next, ids: Object.values(ids) }
}

/** The branches of a node that decides: those of its type, and those that its settings name. */
export function branchesOf(node?: FlowNode, spec?: Pick<Spec, 'branches' | 'branchesIn'>): string[] {
  if (!node) return []
  const listed = spec?.branchesIn ? node.payload?.[spec.branchesIn] : undefined
  const named = Array.isArray(listed) ? listed.map((one) => String(one?.name ?? '')).filter(Boolean) : []
  return [...named, ...(spec?.branches ?? []), ...(node.onError === 'branch' ? ['error'] : [])]
}
