/** Why this amount, why this recipient: what shaped each spend of a run, or of any run of a version. */
import { Tabs } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { Fragment } from 'react'
import { get, type Schemas } from '../api/client'
import { Badge } from '../parts/Badges'
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
const isOutside = (one: Source) =>
  one.source.endsWith(':*') || (one.kind === 'trigger' ? !one.source.startsWith('trigger:manual') : !HERE.has(one.kind))

/** Of a run; of its version while the run has not come to a spend, as at an approval before it. */
export function Why({ runId, workflowId, version }: { runId: string; workflowId?: string; version?: number | null }) {
  const run = useQuery({
    queryKey: ['effects', runId, 'sources'],
    queryFn: async () => {
      const found = await get('/v1/runs/{id}/effects', { path: { id: runId }, query: { include: ['sources'] } })
      return found.sources ?? []
    },
  })
  const isEarly = Boolean(run.data && !run.data.length && workflowId && version)
  const any = useQuery({
    queryKey: ['sources', workflowId, version],
    queryFn: async () => {
      const query = { version: version ?? undefined, limit: 50 }
      return (await get('/v1/workflows/{id}/sources', { path: { id: workflowId ?? '' }, query })).items
    },
    enabled: isEarly,
  })
  const error = run.error ?? any.error
  if (error) return <Trouble error={error} retry={() => run.refetch()} />
  const spends = (isEarly ? any.data : run.data) ?? []
  if (!spends.length) return null
  return (
    <Section title={said.title} about={isEarly ? said.ofVersion : said.ofRun}>
      {spends.map((one) => (
        <Answer key={`${one.workflowId}@${one.version}/${one.nodeId}`} spend={one} />
      ))}
    </Section>
  )
}

function Answer({ spend }: { spend: Spend }) {
  const tabs = said.tabs.map(({ name, fields }) => ({
    id: fields[0] ?? name,
    name,
    lists: fields.includes('decides') ? [spend.decides] : spend.fields.filter((one) => fields.includes(one.field)),
  }))
  return (
    <div className="why">
      <h3>{spend.nodeId}</h3>
      {spend.paths && <p className="quiet">{spend.paths.slice(0, 3).join(', ')}</p>}
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
            <Sources of={one.lists.flatMap((list) => list.sources)} />
          </Tabs.Panel>
        ))}
      </Tabs>
      {spend.approvals.map((one) => (
        <p key={one.nodeId} className="quiet">
          {said.shown(one.nodeId, one.shows)}
        </p>
      ))}
    </div>
  )
}

/** Those from outside first; what the workflow itself says is one line for each version. */
function Sources({ of }: { of: Source[] }) {
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
        <li key={one}>{said.written(one)}</li>
      ))}
    </ul>
  )
}

const versionOf = (one: Source) => one.source.replace('definition:', '').replace(/#.*/, '')

/** Words with `code` in them. */
const Said = ({ text }: { text: string }) => (
  <span dir="auto">
    {text.split('`').map((part, at) => (
      <Fragment key={at}>{at % 2 ? <code>{part}</code> : part}</Fragment>
    ))}
  </span>
)
