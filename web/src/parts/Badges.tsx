/** Small words with a colour; never a colour alone. */
import { readable } from '../model/amounts'
import type { NodeState } from '../model/fold'
import { branchName } from '../model/graph'
import { words } from '../words'

const TONE: Record<string, string> = {
  success: 'ok',
  active: 'ok',
  approved: 'ok',
  confirmed: 'ok',
  allow: 'ok',
  running: 'sky',
  waiting: 'sky',
  retrying: 'sky',
  scheduled: 'sky',
  pending: 'sky',
  ask: 'dust',
  partial: 'dust',
  paused: 'dust',
  failure: 'bad',
  uncertain: 'bad',
  rejected: 'bad',
  reverted: 'bad',
  deny: 'bad',
}

export function Badge({ tone, children }: { tone?: string; children: React.ReactNode }) {
  return <span className={`badge ${tone ?? ''}`}>{children}</span>
}

export const RunStatus = ({ status }: { status: string }) => (
  <Badge tone={TONE[status]}>{words.runStatus[status] ?? status}</Badge>
)
export const NodeStatus = ({
  status,
  assumed,
  branch,
  kept,
}: {
  status: string
  assumed?: boolean
  branch?: string | null
  kept?: boolean
}) => (
  <Badge tone={TONE[status]}>
    {kept
      ? words.runs.kept
      : branch && status === 'success'
        ? `→ ${branchName(branch)}`
        : assumed && status === 'success'
          ? words.nodeStatus.assumed
          : (words.nodeStatus[status] ?? status)}
  </Badge>
)
/** A person is asked: by the step itself, or by the policy about what it sends. */
export const isAsked = (state: NodeState, type: string) =>
  state.status === 'waiting' && (type === 'approve' || /(^|: )asked$/.test(state.message ?? ''))

/** What a step says of itself; that it asks is said in words. */
export const messageOf = (message: string | undefined) => message?.replace(/^.*: asked$/, words.outcomes.notSentYet)

/** How a step stands in a run. */
export const StepBadge = ({ state, type }: { state: NodeState; type: string }) =>
  isAsked(state, type) ? (
    <Badge tone="dust">{words.outcomes.asksPerson}</Badge>
  ) : (
    <NodeStatus status={state.status} assumed={state.assumed} branch={state.branch} kept={state.kept} />
  )

export const WorkflowStatus = ({ status }: { status: string }) => (
  <Badge tone={TONE[status]}>{words.workflowStatus[status] ?? status}</Badge>
)
export const StatusBadge = ({ status }: { status: string }) => <Badge tone={TONE[status]}>{readable(status)}</Badge>
export const ModeBadge = ({ mode }: { mode: 'simulate' | 'dust' | 'live' }) => (
  <span className={`mode ${mode}`}>
    <i className="dot" aria-hidden />
    {words.modeNames[mode]}
  </span>
)
