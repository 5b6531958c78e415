/** What is known to a step of the steps before it: from the last run, from tests since, and by their schemas. */
import { useMemo } from 'react'
import type { Run } from '../api/client'
import { useCatalog } from '../api/queries'
import { useDocument } from '../editor/document'
import { before, pathOf, triggersOf } from '../model/graph'
import { type Leaf, leavesOf } from '../model/values'
import { type Context, contextOf } from './paths'
import { shapesOf } from './shapes'
import { useTested, useTrial } from './trial'

/** `steps`: those before it, nearest first, without what starts the run. */
export type KnownValues = { context: Context; leaves: Leaf[]; steps: string[] }

export function useKnown(id: string, last: Run | null | undefined): KnownValues {
  const flow = useDocument((s) => s.flow)
  const catalog = useCatalog().data
  const workflowId = useDocument((s) => s.id)
  const trial = useTrial(workflowId)
  const tested = useTested(workflowId)
  // biome-ignore lint/correctness/useExhaustiveDependencies: typing in a field changes the flow, but not who comes before
  return useMemo(() => {
    const upstream = before(flow, id)
    const seen = contextOf(last, upstream, pathOf(flow, id), trial, tested)
    const context = { ...seen, shapes: shapesOf(flow, upstream, catalog) }
    const triggers = triggersOf(flow)
    const steps = upstream.filter((one) => !triggers.includes(one))
    return { context, leaves: leavesOf(context.roots, context.shapes, steps), steps }
  }, [last, id, trial, tested, catalog, Object.keys(flow.nodes).length])
}
