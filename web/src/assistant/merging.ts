/** A version with some of the changes of the next one. Pure. */
import type { Difference } from '../diff/changes'
import type { Flow } from '../model/graph'

/** The chosen nodes as they are after, all others as they were. What leads to a new node leads to it here too, and what
 * led to one that is gone leads to what came after it. */
export function merged(before: Flow, after: Flow, differences: Difference[], chosen: Set<string>): Flow {
  if (differences.every((one) => chosen.has(one.id))) return after
  const nodes = { ...before.nodes }
  const taken = differences.filter((one) => chosen.has(one.id))
  for (const { id } of taken) {
    const fresh = after.nodes[id]
    if (fresh) nodes[id] = fresh
    else delete nodes[id]
  }
  const added = new Set(taken.filter((one) => one.kind === 'added').map((one) => one.id))
  const instead = (id: string): string[] => (nodes[id] ? [id] : (before.nodes[id]?.children ?? []).flatMap(instead))
  const lead = (list: string[] | undefined, later: string[] | undefined) => {
    const found = [...(list ?? []).flatMap(instead), ...(later ?? []).filter((id) => added.has(id))]
    return found.length || list ? [...new Set(found)] : undefined
  }
  for (const [id, node] of Object.entries(nodes)) {
    const then = after.nodes[id]
    const [children, loopBody] = [lead(node.children, then?.children), lead(node.loopBody, then?.loopBody)]
    nodes[id] = { ...node, ...(children && { children }), ...(loopBody && { loopBody }) }
  }
  return { ...before, nodes }
}
