/** One run: its steps with what went in and out, its events as they come, and what it changed outside. */

import { ActionIcon, Button, Tabs } from '@mantine/core'
import { useMediaQuery } from '@mantine/hooks'
import { IconList, IconPlayerStop, IconRefresh, IconSitemap } from '@tabler/icons-react'
import { useCallback, useEffect, useState } from 'react'
import { Link, useLocation } from 'wouter'
import { type Json, post, type Run } from '../api/client'
import { refresh, useCatalog, useEffects, useRun, useRunHead } from '../api/queries'
import { AskedBeside } from '../approval/Asked'
import { StatusOf, useWaiting } from '../approval/queue'
import { Balances } from '../effects/Balances'
import { Ladder, Warnings } from '../effects/Ladder'
import { Why } from '../effects/Why'
import { type NodeStates, runStatus } from '../model/fold'
import { type Flow, nameOf } from '../model/graph'
import { ModeBadge } from '../parts/Badges'
import { Bones } from '../parts/Bones'
import { Confirm } from '../parts/Confirm'
import { Fault } from '../parts/Fault'
import { useFilters } from '../parts/filters'
import { later } from '../parts/later'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { LoadingPage } from '../parts/Section'
import { StartedBy } from '../parts/StartedBy'
import { Time, took } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { Ended } from '../run/Ended'
import { EventList } from '../run/EventList'
import { Replay } from '../run/Replay'
import { RetryDialog } from '../run/RetryDialog'
import { StepDetail } from '../run/StepDetail'
import { Steps } from '../run/Steps'
import { show, useRunStore } from '../run/store'
import { ToTheCent } from '../run/ToTheCent'
import { Waiting } from '../run/Waiting'
import { words } from '../words'

export const RunCanvas = later(() => import('../run/RunCanvas').then((module) => module.default))
const said = words.runs

export default function RunPage({ id }: { id: string }) {
  const run = useRunHead(id)
  const isOpen = useRunStore((s) => s.isOpen)
  const isLost = useRunStore((s) => s.isLost)
  const heard = useRunStore((s) => (s.runId === id ? runStatus(s.events) : undefined))
  const status = run.data?.status
  useEffect(() => show(id, () => void refresh('run', 'effects', '/v1/runs')), [id])
  // It waits or continues, or was accepted after this page was opened. An answer from before that differs once more.
  // biome-ignore lint/correctness/useExhaustiveDependencies: asked again when one of the two changes
  useEffect(() => {
    if (heard && heard !== status) void run.refetch()
  }, [heard, status])
  if (run.error && !run.data) return <Missing of="runs" error={run.error} retry={() => run.refetch()} />
  if (!run.data) return <LoadingPage />
  const one = run.data
  return (
    <Page
      title={one.workflowName || said.unsaved}
      className={`runpage ${one.mode}`}
      name={<Title run={one} />}
      actions={<Acts run={one} />}
    >
      {isLost && isOpen && (
        <p className="banner" role="status">
          {words.state.lost}
        </p>
      )}
      {one.status === 'waiting' && <Waiting runId={id} />}
      <Body run={one} />
      <Replay flow={one.workflowDefinition as Flow | null} />
    </Page>
  )
}

function Title({ run }: { run: Run }) {
  return (
    <>
      <h1 dir="auto">{run.workflowName || said.unsaved}</h1>
      {run.workflowVersion && <span className="chip">{said.version(run.workflowVersion)}</span>}
      <ModeBadge mode={run.mode} />
      <span aria-live="polite">
        <StatusOf run={run} />
      </span>
      {run.sourceRunId && (
        <Link className="quiet wide" href={`/runs/${run.sourceRunId}`}>
          {said.retryOf}
        </Link>
      )}
      {run.parentRunId && (
        <Link className="quiet wide" href={`/runs/${run.parentRunId}`}>
          {said.calledBy}
        </Link>
      )}
      <span className="quiet wide">
        <Time at={run.startedAt} />
        {run.finishedAt && `, ${said.tookTime(took(run.startedAt, run.finishedAt))}`}, {said.startedBy}{' '}
        <StartedBy run={run} />
      </span>
    </>
  )
}

function Acts({ run }: { run: Run }) {
  const [asks, setAsks] = useState(false)
  const isOpen = run.status === 'running' || run.status === 'waiting'
  return (
    <>
      {isOpen && (
        <Button variant="default" leftSection={<IconPlayerStop size={15} />} onClick={() => setAsks(true)}>
          {said.cancel}
        </Button>
      )}
      {run.workflowId && (
        <Button
          component={Link}
          href={`/workflows/${run.workflowId}`}
          variant="default"
          leftSection={<IconSitemap size={15} />}
        >
          {said.openWorkflow}
        </Button>
      )}
      <Confirm
        title={said.cancelAsk}
        isOpen={asks}
        close={() => setAsks(false)}
        cancel={said.keep}
        go={said.cancel}
        act={async () => {
          await post('/v1/runs/{id}/cancel', { path: { id: run.id } })
          await refresh('run')
        }}
      >
        <p>{said.cancelAbout}</p>
      </Confirm>
    </>
  )
}

/** Of a run that did not succeed; `isFirst`: nothing else mends it. */
function Retry({ run, failed, isFirst }: { run: Run; failed: string | null; isFirst: boolean }) {
  const flow = run.workflowDefinition as Flow | null
  const [, go] = useLocation()
  const [asks, setAsks] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const retry = async () => {
    if (run.mode !== 'simulate') return setAsks(true) // it sends; a simulation begins anew and sends nothing
    try {
      go(`/runs/${(await post('/v1/runs/{id}/retry', { path: { id: run.id } })).runId}`)
    } catch (problem) {
      setError(problem)
    }
  }
  return (
    <>
      <Trouble error={error} />
      <Button variant={isFirst ? 'filled' : 'default'} leftSection={<IconRefresh size={15} />} onClick={retry}>
        {failed && run.mode !== 'simulate' ? said.retryFrom(nameOf(flow, failed)) : said.retry}
      </Button>
      <RetryDialog run={run} isOpen={asks} close={() => setAsks(false)} go={(runId) => go(`/runs/${runId}`)} />
    </>
  )
}

const BAD = new Set(['failure', 'partial', 'cancelled'])

function Body({ run }: { run: Run }) {
  const isOpen = useRunStore((s) => s.isOpen)
  useKept(run)
  const { search, set } = useFilters()
  const tab = search.get('tab') ?? 'steps'
  return (
    <>
      {BAD.has(run.status) && !isOpen ? (
        <Ended runId={run.id} flow={run.workflowDefinition as Flow | null}>
          {(failed, first) => (
            <>
              {first !== 'look' && <Retry run={run} failed={failed} isFirst={!first} />}
              {failed && run.workflowId && (
                <Link href={`/workflows/${run.workflowId}?step=${failed}`}>{words.outcomes.openSettings}</Link>
              )}
            </>
          )}
        </Ended>
      ) : (
        run.error && <Fault error={run.error as Json} />
      )}
      {!isOpen && <ToTheCent run={run} />}
      <Tabs
        value={tab}
        onChange={(value) => set('tab', value === 'steps' ? null : value)}
        keepMounted={false}
        className="tabs"
      >
        <Tabs.List>
          <Tabs.Tab value="steps">{said.steps}</Tabs.Tab>
          <Tabs.Tab value="effects">{said.effects}</Tabs.Tab>
          <Tabs.Tab value="events">{said.events}</Tabs.Tab>
          <Tabs.Tab value="payload">{said.payload}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="steps">
          <StepsOf run={run} search={search} set={set} />
        </Tabs.Panel>
        <Tabs.Panel value="effects">
          <Report run={run} />
        </Tabs.Panel>
        <Tabs.Panel value="events">
          <EventList flow={run.workflowDefinition as Flow | null} />
        </Tabs.Panel>
        <Tabs.Panel value="payload">
          <Value value={run.payload} label={said.payload} />
        </Tabs.Panel>
      </Tabs>
    </>
  )
}

/** A retry has no events of the steps that it keeps: their states come from the run itself. */
function useKept(run: Run) {
  const states = useRun(run.sourceRunId ? run.id : '').data?.executionState
  useEffect(() => {
    if (!states) return
    const kept: NodeStates = {}
    for (const [id, one] of Object.entries(states))
      if (one.keptFrom)
        kept[id] = { status: one.status, attempt: 1, result: one.result, kept: true, at: one.startedAt ?? '' }
    useRunStore.getState().keep(kept)
  }, [states])
}

type StepsProps = { run: Run; search: URLSearchParams; set: (name: string, value: string | null) => void }

/** The graph; on a phone, and whoever asks for it, the list. The step, the item and the view are in the address. */
function StepsOf({ run, search, set }: StepsProps) {
  const catalog = useCatalog()
  const isNarrow = useMediaQuery('(max-width: 760px)', undefined, { getInitialValueInEffect: false }) ?? false
  const isWide = useMediaQuery('(min-width: 1100px)', undefined, { getInitialValueInEffect: false }) ?? true
  const asked = useWaiting().rows.filter((one) => one.runId === run.id)
  const flow = run.workflowDefinition as Flow | null
  const step = search.get('step')
  const isList = isNarrow || search.get('view') === 'list'
  const select = useCallback((id: string | null) => set('step', id), [set])
  useItemOfAddress(search.get('items'), set)
  if (!flow) return null
  const [question] = asked
  const detail =
    step && flow.nodes[step] ? (
      <StepDetail key={step} id={step} run={run} flow={flow} close={() => select(null)} />
    ) : (
      isWide && question && <AskedBeside key={question.id} id={question.id} others={asked.length - 1} />
    )
  const toggle = !isNarrow && (
    <ActionIcon
      className="viewtoggle"
      variant="default"
      size={34}
      aria-label={isList ? words.editor.graph : words.editor.outline}
      title={isList ? words.editor.graph : words.editor.outline}
      onClick={() => set('view', isList ? null : 'list')}
    >
      {isList ? <IconSitemap size={17} /> : <IconList size={17} />}
    </ActionIcon>
  )
  if (isList)
    return (
      <div className={`split ${step ? 'open' : ''}`}>
        <div className="listside">
          {toggle}
          <Steps flow={flow} catalog={catalog.data ?? {}} selected={step} select={select} />
        </div>
        {detail || <p className="quiet hint">{words.step.choose}</p>}
      </div>
    )
  return (
    <div className="stage">
      <RunCanvas run={run} flow={flow} selected={step} select={select} />
      <Balances />
      {toggle}
      {detail}
    </div>
  )
}

/** The picked items as `each:3,inner:0` in the address: read once, then written. */
function useItemOfAddress(text: string | null, set: (name: string, value: string | null) => void) {
  const picked = useRunStore((s) => s.picked)
  const runId = useRunStore((s) => s.runId)
  // biome-ignore lint/correctness/useExhaustiveDependencies: the address is read when the run is first shown
  useEffect(() => {
    for (const one of text?.split(',') ?? []) {
      const at = one.lastIndexOf(':')
      if (at > 0) useRunStore.getState().pick(one.slice(0, at), Number(one.slice(at + 1)))
    }
  }, [runId])
  const wanted = Object.entries(picked)
    .map(([loop, index]) => `${loop}:${index}`)
    .join()
  useEffect(() => {
    if (runId !== null && useRunStore.getState().events.length) set('items', wanted || null)
  }, [wanted, set, runId])
}

function Report({ run }: { run: Run }) {
  const effects = useEffects(run.id)
  if (effects.error) return <Trouble error={effects.error} retry={() => effects.refetch()} />
  if (!effects.data) return <Bones many={4} />
  const rungs = { [run.mode]: effects.data }
  const flow = run.workflowDefinition as Flow | null
  return (
    <>
      <p className="printlink">
        <Link href={`/runs/${run.id}/report`}>{said.print}</Link>
      </p>
      <Warnings rungs={rungs} flow={flow} />
      <Ladder rungs={rungs} modes={[run.mode]} flow={flow} />
      <Why runId={run.id} flow={flow} />
    </>
  )
}
