/** Steps as they may leave the workflow: with their settings and ways, without what could be a secret. */
import type { Spec } from '../api/queries'
import type { Schema } from '../inspector/schema'
import type { Flow, FlowNode } from '../model/graph'
import { isSecretName, withoutSecrets } from './secrets'

type Copied = { nodes: Record<string, FlowNode>; leftOut: string[] }

/** A pinned result stays behind: it is data from outside, whatever that holds. */
export function copyOf(flow: Flow, ids: string[], catalog: Record<string, Spec>): Copied {
  const found: Copied = { nodes: {}, leftOut: [] }
  for (const id of ids) {
    const node = flow.nodes[id]
    if (!node) continue
    const { pinned, ...kept } = node
    if (pinned !== undefined) found.leftOut.push(`${id}.pinned`)
    const fields = (catalog[node.type]?.payloadSchema as Schema | undefined)?.properties ?? {}
    const isNamed = (name: string) => isSecretName(name) || fields[name]?.['x-secret'] === true
    const leave = (path: string) => found.leftOut.push(`${id}.${path}`)
    const payload = withoutSecrets(node.payload, isNamed, leave) as FlowNode['payload']
    found.nodes[id] = { ...kept, ...(payload && { payload }) }
  }
  return found
}
