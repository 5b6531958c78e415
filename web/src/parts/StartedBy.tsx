/** Whoever started a run by hand; else what did. */
import type { RunItem } from '../api/client'
import { useWho } from '../api/who'
import { words } from '../words'

const said = words.runs

export function StartedBy({ run }: { run: Pick<RunItem, 'triggerSource' | 'triggeredBy'> }) {
  const who = useWho()
  const isByHand = run.triggerSource === 'api' || run.triggerSource === 'manual'
  return (
    <span dir="auto">{isByHand ? who(run.triggeredBy) : (said.sources[run.triggerSource] ?? run.triggerSource)}</span>
  )
}
