/** Small words with a colour; never a colour alone. */
import { readable } from '../model/amounts'
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
        ? `→ ${branch}`
        : assumed && status === 'success'
          ? words.nodeStatus.assumed
          : (words.nodeStatus[status] ?? status)}
  </Badge>
)
export const WorkflowStatus = ({ status }: { status: string }) => (
  <Badge tone={TONE[status]}>{words.workflowStatus[status] ?? status}</Badge>
)
export const StatusBadge = ({ status }: { status: string }) => <Badge tone={TONE[status]}>{readable(status)}</Badge>
export const ModeBadge = ({ mode }: { mode: 'simulate' | 'dust' | 'live' }) => (
  <span className={`mode ${mode}`}>
    <i className="dot" aria-hidden />
    {words.mode[mode]}
  </span>
)
