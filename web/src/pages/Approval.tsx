/** One question: what the run does, until when, and the two answers. Made to be used on a phone. */
import { ActionIcon } from '@mantine/core'
import { IconChevronLeft, IconChevronRight } from '@tabler/icons-react'
import { useEffect } from 'react'
import { Link, useLocation } from 'wouter'
import type { Effects, Run } from '../api/client'
import { useEffects, useList, useRun } from '../api/queries'
import { Asked, useApproval } from '../approval/Asked'
import { type Approval, Simulate } from '../approval/Card'
import { useWaiting } from '../approval/queue'
import { Ladder, Warnings } from '../effects/Ladder'
import { Why } from '../effects/Why'
import { briefOf } from '../model/asked'
import { type Flow, pathNames } from '../model/graph'
import { Badge, ModeBadge } from '../parts/Badges'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Copied, Facts, Loading, LoadingPage, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { approving } from '../words.approval'
import { pages } from '../words.pages'

const said = pages.approvals
const TONES: Record<string, string> = { pending: 'dust', approved: 'ok', rejected: 'bad' }

export const ApprovalStatus = ({ status }: { status: string }) => (
  <Badge tone={TONES[status]}>{said.status[status] ?? status}</Badge>
)

/** From one open question to the next. */
function Neighbours({ id }: { id: string }) {
  const [, go] = useLocation()
  const { rows, all } = useWaiting()
  const at = rows.findIndex((one) => one.id === id)
  const [before, next] = [rows[at - 1]?.id, rows[at + 1]?.id]
  useEffect(() => {
    const listen = ({ key, target, ctrlKey, altKey, metaKey }: KeyboardEvent) => {
      const to = key === 'ArrowLeft' ? before : key === 'ArrowRight' ? next : undefined
      const isTyping = target instanceof HTMLElement && target.closest('input, textarea, [role=tab], .cm-editor')
      if (to && at >= 0 && !isTyping && !ctrlKey && !altKey && !metaKey) go(`/approvals/${to}`)
    }
    window.addEventListener('keydown', listen)
    return () => window.removeEventListener('keydown', listen)
  }, [before, next, at, go])
  if (at < 0 || rows.length < 2) return null
  const arrow = (to: string | undefined, label: string, Icon: typeof IconChevronLeft) => (
    <ActionIcon
      variant="subtle"
      color="gray"
      size={34}
      aria-label={label}
      disabled={!to}
      onClick={() => to && go(`/approvals/${to}`)}
    >
      <Icon size={19} />
    </ActionIcon>
  )
  return (
    <>
      <span className="quiet num">{approving.place(at + 1, all)}</span>
      {arrow(before, approving.before, IconChevronLeft)}
      {arrow(next, approving.next, IconChevronRight)}
    </>
  )
}

export default function ApprovalPage({ id }: { id: string }) {
  const found = useApproval(id)
  if (found.error && !found.data) return <Missing of="approvals" error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <LoadingPage />
  const one = found.data
  return (
    <Page
      title={briefOf(one.message || one.path)}
      className="details approval"
      actions={<Neighbours id={id} />}
      name={
        <>
          <h1 dir="auto">{one.workflowName || said.inline}</h1>
          <span className={one.status === 'pending' ? 'wide' : ''}>
            <ModeBadge mode={one.mode} />
          </span>
          <span aria-live="polite" className={one.status === 'pending' ? 'wide' : ''}>
            <ApprovalStatus status={one.status} />
          </span>
        </>
      }
    >
      <Asked key={id} approval={one} />
      <Consequences approval={one} />
      <Reasons approval={one} />
      <Section title={said.about}>
        <Facts of={factsOf(one)} />
      </Section>
    </Page>
  )
}

const factsOf = (one: Approval): [string, React.ReactNode][] => [
  [said.until, one.status === 'pending' && <Until at={one.expiresAt} />],
  [said.asked, <Time key="at" at={one.createdAt} />],
  [said.votes, one.quorum > 1 && <Votes of={one} />],
  [said.decided, one.decidedAt && <Time at={one.decidedAt} />],
  [said.by, one.decidedBy === 'link' ? said.byLink : one.decidedBy],
  [said.comment, one.comment],
  [said.step, <StepOf key="step" of={one} />],
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

/** By the name that it has in the workflow. */
function StepOf({ of }: { of: Approval }) {
  const run = useRun(of.runId)
  return <span dir="auto">{pathNames(run.data?.workflowDefinition as Flow | null | undefined, of.path)}</span>
}

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

/** The run's own effects beside those of the newest simulation of the same version. */
function Consequences({ approval }: { approval: Approval }) {
  const run = useRun(approval.runId)
  const effects = useEffects(approval.runId)
  const error = run.error ?? effects.error
  if (!effects.data || !run.data)
    return error ? <Trouble error={error} retry={() => Promise.all([run.refetch(), effects.refetch()])} /> : <Loading />
  const flow = run.data.workflowDefinition as Flow | null
  if (approval.launch)
    return (
      <Section title={said.launched} about={said.launchedAbout}>
        <Warnings rungs={{ simulate: effects.data }} flow={flow} />
        <Ladder rungs={{ simulate: effects.data }} modes={['simulate']} flow={flow} />
        <Value value={run.data.payload} label={said.payload} />
      </Section>
    )
  const { mode } = approval
  const rehearses = mode !== 'simulate' && run.data.workflowId !== ''
  return (
    <Section title={said.effects} about={said.effectsAbout} actions={rehearses && <Simulate run={run.data} />}>
      <Warnings rungs={{ [mode]: effects.data }} flow={flow} />
      {rehearses ? (
        <Beside run={run.data} effects={effects.data} />
      ) : (
        <Ladder rungs={{ [mode]: effects.data }} modes={[mode]} flow={flow} />
      )}
    </Section>
  )
}

/** What shapes the spend that is asked about. */
function Reasons({ approval }: { approval: Approval }) {
  const run = useRun(approval.runId)
  if (!run.data) return null
  return (
    <Why
      runId={approval.runId}
      workflowId={run.data.workflowId}
      version={run.data.workflowVersion}
      flow={run.data.workflowDefinition as Flow | null}
    />
  )
}

function Beside({ run, effects }: { run: Run; effects: Effects }) {
  const found = useList('/v1/runs', { workflowId: run.workflowId, mode: 'simulate' })
  const simulation = found.rows.find((one) => one.workflowVersion === run.workflowVersion && one.finishedAt)
  const simulated = useEffects(simulation?.id)
  const rungs = { ...(simulated.data ? { simulate: simulated.data } : {}), [run.mode]: effects }
  return (
    <>
      <Ladder
        rungs={rungs}
        modes={simulated.data ? ['simulate', run.mode] : [run.mode]}
        flow={run.workflowDefinition as Flow | null}
      />
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
