/** One question: what the run does, until when, and the two answers. Made to be used on a phone. */
import { Button, Textarea } from '@mantine/core'
import { IconCheck, IconX } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link } from 'wouter'
import { type Effects, get, post, type Run, type Schemas } from '../api/client'
import { refresh, useEffects, useList, useMe, useRun } from '../api/queries'
import { Ladder, Warnings } from '../effects/Ladder'
import { Why } from '../effects/Why'
import { short } from '../model/amounts'
import { Badge, ModeBadge } from '../parts/Badges'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Copied, Facts, Loading, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { pages } from '../words.pages'

type Approval = Schemas['ApprovalAnswer']
const said = pages.approvals
const TONES: Record<string, string> = { pending: 'sky', approved: 'ok', rejected: 'bad' }

export const ApprovalStatus = ({ status }: { status: string }) => (
  <Badge tone={TONES[status]}>{said.status[status] ?? status}</Badge>
)

export default function ApprovalPage({ id }: { id: string }) {
  const found = useQuery({
    queryKey: ['/v1/approvals', id],
    queryFn: () => get('/v1/approvals/{id}', { path: { id } }),
  })
  if (found.error && !found.data) return <Missing of="approvals" error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <Loading />
  const one = found.data
  return (
    <Page
      title={one.message || one.path}
      className="details"
      name={
        <>
          <h1 dir="auto">{one.workflowName || said.inline}</h1>
          <ModeBadge mode={one.mode} />
          <span aria-live="polite">
            <ApprovalStatus status={one.status} />
          </span>
        </>
      }
    >
      <Question text={one.message || one.path} />
      {one.status === 'pending' && <Decide approval={one} />}
      <Consequences approval={one} />
      <Reasons approval={one} />
      <Section title={said.about}>
        <Facts of={factsOf(one)} />
      </Section>
    </Page>
  )
}

/** Addresses and calldata are shortened to be read; the exact text is one click away. */
function Question({ text }: { text: string }) {
  const brief = short(text)
  return (
    <div>
      <p className={`question ${brief.length > 120 ? 'long' : ''}`} dir="auto">
        {brief}
      </p>
      {brief !== text && (
        <details className="exact">
          <summary>{said.exact}</summary>
          <p dir="auto">{text}</p>
        </details>
      )}
    </div>
  )
}

const factsOf = (one: Approval): [string, React.ReactNode][] => [
  [said.until, one.status === 'pending' && <Until at={one.expiresAt} />],
  [said.asked, <Time key="at" at={one.createdAt} />],
  [said.votes, one.quorum > 1 && <Votes of={one} />],
  [said.decided, one.decidedAt && <Time at={one.decidedAt} />],
  [said.by, one.decidedBy === 'link' ? said.byLink : one.decidedBy],
  [said.comment, one.comment],
  [said.step, one.path],
  [said.version, one.launch && String(one.launch.version)],
  [said.proposed, one.launch?.proposedBy],
  [
    said.starts,
    one.launch &&
      (one.status === 'approved' ? (
        <Link href={`/runs/${one.launch.runId}`}>{one.launch.runId}</Link>
      ) : (
        one.launch.runId
      )),
  ],
  [
    one.launch ? said.rehearsal : said.run,
    <Link key="run" href={`/runs/${one.runId}`}>
      {one.runId}
    </Link>,
  ],
  [said.workflow, one.workflowId && <Link href={`/workflows/${one.workflowId}`}>{one.workflowName}</Link>],
  [said.who, one.approvers.length ? one.approvers.join(', ') : said.anyone],
  [
    said.binding,
    one.binding && (
      <>
        <Copied text={one.binding} />{' '}
        <span className="quiet">{one.launch ? said.launchBinding : said.bindingAbout}</span>
      </>
    ),
  ],
]

const Votes = ({ of: { votes, quorum } }: { of: Approval }) => (
  <>
    {said.votesOf(votes.length, quorum)}
    {votes.map((one) => (
      <div key={one.by} dir="auto">
        <code>{one.by}</code> <Time at={one.at} /> {one.comment}
      </div>
    ))}
  </>
)

const Until = ({ at }: { at: string }) => (
  <>
    <Time at={at} />{' '}
    <span className="quiet">({new Date(at).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' })})</span>
  </>
)

function Decide({ approval }: { approval: Approval }) {
  const [comment, setComment] = useState('')
  const [busy, setBusy] = useState('')
  const [error, setError] = useState<unknown>(null)
  const me = useMe().data?.keyId
  const hasVoted = approval.votes.some((one) => one.by === me)
  const decide = async (answer: 'approve' | 'reject') => {
    setBusy(answer)
    setError(null)
    try {
      const said = { comment: comment.trim() || null }
      const path = { path: { id: approval.id } }
      if (answer === 'reject') await post('/v1/approvals/{id}/reject', path, said)
      else await post('/v1/approvals/{id}/approve', path, { ...said, binding: approval.binding })
    } catch (problem) {
      setError(problem)
    }
    setBusy('')
    await refresh('/v1/approvals', 'run', 'effects', '/v1/runs')
  }
  return (
    <div className="decide">
      <p className="quiet">
        {approval.quorum > 1 && `${said.votesOf(approval.votes.length, approval.quorum)}. `}
        {said.until} <Until at={approval.expiresAt} />
      </p>
      {hasVoted && <p role="status">{said.voted}</p>}
      <Textarea
        label={said.comment}
        description={said.commentAbout}
        autosize
        minRows={1}
        maxLength={2000}
        value={comment}
        onChange={(event) => setComment(event.currentTarget.value)}
      />
      <Trouble error={error} />
      <div className="twoanswers">
        <Button
          variant="default"
          size="md"
          leftSection={<IconX size={17} />}
          loading={busy === 'reject'}
          disabled={busy !== ''}
          onClick={() => decide('reject')}
        >
          {said.reject}
        </Button>
        <Button
          size="md"
          leftSection={<IconCheck size={17} />}
          loading={busy === 'approve'}
          disabled={busy !== '' || hasVoted}
          onClick={() => decide('approve')}
        >
          {said.approve}
        </Button>
      </div>
    </div>
  )
}

/** The run's own effects beside those of the newest simulation of the same version. */
function Consequences({ approval }: { approval: Approval }) {
  const run = useRun(approval.runId)
  const effects = useEffects(approval.runId)
  const error = run.error ?? effects.error
  if (!effects.data || !run.data)
    return error ? <Trouble error={error} retry={() => Promise.all([run.refetch(), effects.refetch()])} /> : <Loading />
  if (approval.launch)
    return (
      <Section title={said.launched} about={said.launchedAbout}>
        <Warnings rungs={{ simulate: effects.data }} />
        <Ladder rungs={{ simulate: effects.data }} modes={['simulate']} />
        <Value value={run.data.payload} label={said.payload} />
      </Section>
    )
  const { mode } = approval
  const rehearses = mode !== 'simulate' && run.data.workflowId !== ''
  return (
    <Section title={said.effects} about={said.effectsAbout} actions={rehearses && <Simulate run={run.data} />}>
      <Warnings rungs={{ [mode]: effects.data }} />
      {rehearses ? (
        <Beside run={run.data} effects={effects.data} />
      ) : (
        <Ladder rungs={{ [mode]: effects.data }} modes={[mode]} />
      )}
    </Section>
  )
}

/** What shapes the spend that is asked about. */
function Reasons({ approval }: { approval: Approval }) {
  const run = useRun(approval.runId)
  if (!run.data) return null
  return <Why runId={approval.runId} workflowId={run.data.workflowId} version={run.data.workflowVersion} />
}

function Beside({ run, effects }: { run: Run; effects: Effects }) {
  const found = useList('/v1/runs', { workflowId: run.workflowId, mode: 'simulate' })
  const simulation = found.rows.find((one) => one.workflowVersion === run.workflowVersion && one.finishedAt)
  const simulated = useEffects(simulation?.id)
  const rungs = { ...(simulated.data ? { simulate: simulated.data } : {}), [run.mode]: effects }
  return (
    <>
      <Ladder rungs={rungs} modes={simulated.data ? ['simulate', run.mode] : [run.mode]} />
      <p className="quiet foot">
        {simulation ? (
          <>
            {said.simulated} <Link href={`/runs/${simulation.id}`}>{simulation.id}</Link>,{' '}
            <Time at={simulation.startedAt} />
          </>
        ) : (
          said.noSimulation
        )}
      </p>
    </>
  )
}

/** Rehearses the same run on the newest state; the list of runs tells when it is done. */
function Simulate({ run }: { run: Run }) {
  const [error, setError] = useState<unknown>(null)
  const start = async () => {
    setError(null)
    try {
      const body = {
        payload: run.payload,
        version: run.workflowVersion,
        triggerNodeId: run.triggerNodeId,
        simulate: true,
      } as Schemas['RunBody']
      await post('/v1/workflows/{id}/run', { path: { id: run.workflowId } }, body)
      await refresh('/v1/runs')
    } catch (problem) {
      setError(problem)
    }
  }
  return (
    <>
      <Trouble error={error} />
      <Button size="xs" variant="default" onClick={start}>
        {said.simulate}
      </Button>
    </>
  )
}
