/** Which way a simulation takes from a step that decides one: a pin, without which what people decide is a guess. */
import { NativeSelect } from '@mantine/core'
import type { Json } from '../api/client'
import type { Spec } from '../api/queries'
import { edit, useDocument } from '../editor/document'
import { branchesOf, patchNode } from '../editor/edits'
import { words } from '../words'

const said = words.inspector
/** Those whose pin is a branch, and what they do without one. */
const WITHOUT: Record<string, string> = {
  approve: said.simulatedGuess,
  if: said.simulatedTest,
  switch: said.simulatedTest,
}

export function SimulatedAs({ id, spec }: { id: string; spec: Spec }) {
  const node = useDocument((s) => s.flow.nodes[id])
  const without = WITHOUT[spec.type]
  if (!node || !without) return null
  const { pinned } = node
  const value = typeof pinned === 'string' ? pinned : String((pinned as Json | undefined)?.branch ?? '')
  const pin = (branch: string) => edit((flow) => patchNode(flow, id, { pinned: branch ? { branch } : undefined }))
  return (
    <NativeSelect
      label={said.simulatedAs}
      description={!value && spec.type === 'approve' && said.simulatedAbout}
      value={value}
      data={[{ value: '', label: without }, ...new Set([...branchesOf(node, spec), ...(value ? [value] : [])])]}
      onChange={(event) => pin(event.currentTarget.value)}
    />
  )
}
