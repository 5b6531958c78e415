/** How the blanks of a template are called on the page; the server says what they are. Pure. */
import { readable } from './amounts'
import { type Flow, triggersOf } from './graph'

export type Blank = {
  name: string
  kind: 'url' | 'address' | 'text' | 'table' | 'connector' | 'wallet'
  nodeId: string
  field: string
  isInput: boolean
  about: string | null
  example: string
  fits: string[]
  isRequired: boolean
}

/** `Treasury` of an input, `Send: recipient` of a setting. */
export function labelOf(blank: Blank, flow: Flow, specs: Record<string, { name: string } | undefined>): string {
  const { kind, nodeId, field, isInput } = blank
  if (isInput || kind === 'wallet') return readable(field)
  const node = flow.nodes[nodeId]
  const trigger = triggersOf(flow).includes(nodeId) ? specs[node?.type ?? '']?.name : undefined
  const step = node?.titleOverride || trigger || readable(nodeId)
  return `${step}: ${kind === 'connector' ? field : readable(field)}`
}

/** What the server is told: what was answered, and the table of the example where no other one was chosen. */
export function valuesOf(blanks: Blank[], answers: Record<string, string>): Record<string, string> {
  const chosen = ({ name, kind, example }: Blank) => answers[name] || (kind === 'table' ? example : '')
  return Object.fromEntries(blanks.map((one) => [one.name, chosen(one)]).filter(([, value]) => value))
}
