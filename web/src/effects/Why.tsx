/** Why this amount, why this recipient: what shaped each spend of a run, or of any run of a version. */
import { Tabs } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { Fragment, useEffect, useState } from 'react'
import { get, type Schemas } from '../api/client'
import { useShaping } from '../canvas/shaping'
import { type Flow, nameOf, pathNames } from '../model/graph'
import { Badge } from '../parts/Badges'
import { Bones } from '../parts/Bones'
import { Section } from '../parts/Section'
import { Trouble } from '../parts/Trouble'
import { pages } from '../words.pages'

type Spend = Schemas['SpendSourcesAnswer']
type Source = Schemas['SourceAnswer']
const said = pages.why
const HERE = new Set([
  'definition',
  'variable',
  'table',
  'props',
  'clock',
  'run',
  'env',
  'setting',
  'workflow',
  'chain',
])

/** Somebody else's word: an answer, an event, a model, or one that nobody can tell before. */
export const isOutside = (one: Source) =>
  one.source.endsWith(':*') || (one.kind === 'trigger' ? !one.source.startsWith('trigger:manual') : !HERE.has(one.kind))

type Of = { runId?: string | undefined; workflowId?: string | null | undefined; version?: number | null | undefined }

/** Of a run; of its version without one, and while it `isEarly`: it has not come to the spend that is asked about. */
function useReasons({ runId, workflowId, version }: Of, isAsked: (one: Spend) => boolean, seen = '') {
  const run = useQuery({
    queryKey: ['effects', runId, 'sources'],
    queryFn: async () => {
      const query = { include: ['sources' as const] }
      return (await get('/v1/runs/{id}/effects', { path: { id: runId ?? '' }, query })).sources ?? []
    },
    enabled: Boolean(runId),
  })
  const isEarly = Boolean((!runId || (run.data && !run.data.some(isAsked))) && workflowId && version)
  const any = useQuery({
    queryKey: ['sources', workflowId, version, seen],
    queryFn: async () => {
      const items: Spend[] = []
      for (;;) {
        const query = { version: version ?? undefined, limit: 100, offset: items.length }
        const page = await get('/v1/workflows/{id}/sources', { path: { id: workflowId ?? '' }, query })
        items.push(...page.items)
        if (!page.hasMore) return items
      }
    },
    enabled: isEarly,
  })
  const spends = ((isEarly ? any.data : run.data) ?? []).filter(isAsked)
  const retry = () => void (isEarly ? any : run).refetch()
  return { spends, isEarly, error: run.error ?? any.error, retry, isRead: (isEarly ? any : run).isSuccess }
}

const all = () => true
const SHOWN = 50

/** `isInside`: of something that has the title itself. */
export function Why({
  runId,
  workflowId,
  version,
  isInside = false,
  flow,
}: Of & { isInside?: boolean; flow?: Flow | null }) {
  const { spends, isEarly, error, retry } = useReasons({ runId, workflowId, version }, all)
  const [most, setMost] = useState(SHOWN)
  if (error) return <Trouble error={error} retry={retry} />
  if (!spends.length) return null
  const answers = (
    <>
      {spends.slice(0, most).map((one) => (
        <Answer key={`${one.workflowId}@${one.version}/${one.nodeId}`} spend={one} flow={flow} />
      ))}
      {spends.length > most && (
        <button type="button" className="link" onClick={() => setMost(most + SHOWN)}>
          {said.more(most, spends.length)}
        </button>
      )}
    </>
  )
  if (isInside) return answers
  return (
    <Section title={said.title} about={isEarly ? said.ofVersion : said.ofRun}>
      {answers}
    </Section>
  )
}

type OfStep = Of & { id: string; seen?: string; flow: Flow }

/** Of one step, whose sources the canvas shows meanwhile. `seen`: what the document was saved as. */
export function WhyStep({ id, seen, flow, ...of }: OfStep) {
  const isIt = (one: Spend) => one.nodeId === id && one.workflowId === (of.workflowId ?? '')
  const { spends, isEarly, error, retry, isRead } = useReasons(of, isIt, seen)
  const [spend] = spends
  useEffect(() => {
    const here = spend?.nodes.filter((one) => one.workflowId === spend.workflowId) ?? []
    useShaping.setState({ levels: Object.fromEntries(here.map((one) => [one.nodeId, one.level])) })
    return () => useShaping.setState({ levels: {} })
  }, [spend])
  if (error) return <Trouble error={error} retry={retry} />
  if (!spend) return isRead ? <p className="quiet">{said.none}</p> : <Bones many={3} />
  return (
    <>
      <p className="quiet">{of.runId && isEarly ? said.ofVersion : said.onCanvas}</p>
      <Answer spend={spend} flow={flow} />
    </>
  )
}

function Answer({ spend, flow }: { spend: Spend; flow: Flow | null | undefined }) {
  const places = (spend.paths ?? []).filter((path) => path !== spend.nodeId).map((path) => pathNames(flow, path))
  const tabs = said.tabs.map(({ name, fields }) => ({
    id: fields[0] ?? name,
    name,
    lists: fields.includes('decides') ? [spend.decides] : spend.fields.filter((one) => fields.includes(one.field)),
  }))
  return (
    <div className="why">
      <h3 dir="auto">{nameOf(flow, spend.nodeId)}</h3>
      {places.length > 0 && <p className="quiet">{places.slice(0, 3).join(', ')}</p>}
      <Tabs defaultValue={tabs[0]?.id} keepMounted={false}>
        <Tabs.List>
          {tabs.map((one) => (
            <Tabs.Tab key={one.id} value={one.id}>
              {one.name}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {tabs.map((one) => (
          <Tabs.Panel key={one.id} value={one.id}>
            <Sources of={one.lists.flatMap((list) => list.sources)} own={spend.workflowId} />
          </Tabs.Panel>
        ))}
      </Tabs>
      {spend.stores.map((one) => (
        <Store key={one.source} store={one} />
      ))}
      {spend.approvals.map((one) => (
        <p key={one.nodeId} className="quiet">
          {said.shown(one.nodeId, one.shows)}
        </p>
      ))}
    </div>
  )
}

/** A table or a variable that the spend hangs on: what shapes it, and who writes it. */
function Store({ store }: { store: Schemas['StoreSources'] }) {
  const steps = store.writers.map((one) => `${one.nodeId} (${one.workflowId})`)
  return (
    <>
      <p className="quiet">
        <Said text={store.says.replace(/,.*/, '')} /> {said.writtenBy([...steps, ...store.keys])}
      </p>
      <Sources of={store.sources} />
    </>
  )
}

/** Those from outside first; what the workflow itself says is one line for each version. */
function Sources({ of, own }: { of: Source[]; own?: string | null }) {
  const all = [...new Map(of.map((one) => [one.source, one])).values()]
  const written = [...new Set(all.filter((one) => one.kind === 'definition').map(versionOf))]
  const others = all
    .filter((one) => one.kind !== 'definition')
    .sort((one, other) => Number(isOutside(other)) - Number(isOutside(one)))
  return (
    <ul className="sources">
      {others.map((one) => (
        <li key={one.source} className={isOutside(one) ? 'outside' : ''}>
          <Said text={one.says} /> {isOutside(one) && <Badge tone="dust">{said.outside}</Badge>}
        </li>
      ))}
      {written.map((one) => (
        <li key={one}>{said.written(one.split('@')[0] === own ? `@${one.split('@')[1]}` : one)}</li>
      ))}
    </ul>
  )
}

const versionOf = (one: Source) => one.source.replace('definition:', '').replace(/#.*/, '')

/** Words with `code` in them. */
export const Said = ({ text }: { text: string }) => (
  <span dir="auto">
    {text.split('`').map((part, at) => (
      <Fragment key={at}>{at % 2 ? <code>{part}</code> : part}</Fragment>
    ))}
  </span>
)
