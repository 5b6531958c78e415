/** What is to be known of a run that ended without success: what is final, what failed and why, and what mends it. */
import type { ReactNode } from 'react'
import { useEffects } from '../api/queries'
import type { NodeStates } from '../model/fold'
import { runHeading } from '../model/outcomes'
import { Fault } from '../parts/Fault'
import { useRunStore } from './store'

/** `children`: buttons, given the step that failed. */
export function Ended({ runId, children }: { runId: string; children?: (failed: string | null) => ReactNode }) {
  const effects = useEffects(runId).data
  const nodes = useRunStore((s) => (s.runId === runId ? s.nodes : NO_NODES))
  if (!effects || effects.status === 'success' || effects.status === 'running' || effects.status === 'waiting')
    return null
  const [failed, state] = Object.entries(nodes).find(([, one]) => one.status === 'failure') ?? [null, undefined]
  return (
    <section className="ended" role="status">
      <h2>{runHeading({ mode: effects.mode, status: effects.status, failed, effects })}</h2>
      {state?.error && <Fault error={state.error} />}
      <div className="acts">{children?.(failed)}</div>
    </section>
  )
}

const NO_NODES: NodeStates = {}
