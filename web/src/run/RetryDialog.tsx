/** Before a run sends again: what was sent before and will be sent again, what is kept, and what is new. */
import { post, type Run } from '../api/client'
import { useCatalog, useEffects, useRun } from '../api/queries'
import { readable } from '../model/amounts'
import type { Flow } from '../model/graph'
import { type Count, retryOf } from '../model/outcomes'
import { Confirm } from '../parts/Confirm'
import { Loading } from '../parts/Section'
import { words } from '../words'

const said = words.runs
type Props = { run: Run; isOpen: boolean; close: () => void; go: (runId: string) => void }

export function RetryDialog({ run, isOpen, close, go }: Props) {
  return (
    <Confirm
      title={said.retryAsk}
      isOpen={isOpen}
      close={close}
      go={said.retryGo}
      act={async () => go((await post('/v1/runs/{id}/retry', { path: { id: run.id } })).runId)}
    >
      {isOpen && <Plan run={run} />}
    </Confirm>
  )
}

function Plan({ run }: { run: Run }) {
  const whole = useRun(run.id).data
  const effects = useEffects(run.id).data
  const catalog = useCatalog().data
  if (!whole || !effects || !catalog) return <Loading />
  const flow = whole.workflowDefinition as Flow | null
  const nodes = Object.entries(flow?.nodes ?? {})
  const writes = nodes.filter(([, one]) => SENDS.has(catalog[one.type]?.effect ?? '') || one.type === 'call-workflow')
  const plan = retryOf(whole.executionState ?? {}, new Set(writes.map(([id]) => id)), effects)
  const list = (title: string, counts: Count[]) =>
    counts.length > 0 && (
      <>
        <h3>{title}</h3>
        <ul>
          {counts.map(({ id, times }) => (
            <li key={id} dir="auto">
              {said.times(flow?.nodes[id]?.titleOverride || readable(id), times)}
            </li>
          ))}
        </ul>
      </>
    )
  return (
    <>
      {run.mode === 'live' && <p className="fault">{said.retryMoney}</p>}
      {list(said.retryAgain, plan.again)}
      {list(said.retryKept, plan.kept)}
      {list(said.retryFirst, plan.first)}
    </>
  )
}

const SENDS = new Set(['write', 'spend'])
