/** What starts runs, of one workflow or all: next times, what came in, and what was told to others. */
import { Select, Tabs } from '@mantine/core'
import { useSearchParams } from 'wouter'
import { useList } from '../api/queries'
import { Page } from '../parts/Page'
import { pages } from '../words.pages'
import { Coming } from './Coming'
import { Deliveries } from './Deliveries'
import { Events } from './Events'
import { Times } from './Times'
import { Webhooks } from './Webhooks'

const said = pages.triggers

export default function Triggers() {
  const [search, setSearch] = useSearchParams()
  const workflows = useList('/v1/workflows')
  const workflowId = search.get('workflow')
  const tab = search.get('tab') ?? 'events'
  const set = (name: string, value: string | null) =>
    setSearch((old) => {
      const next = new URLSearchParams(old)
      if (value) next.set(name, value)
      else next.delete(name)
      return next
    })
  const known = workflows.rows.map((one) => ({ value: one.id, label: one.name }))
  if (workflowId && !known.some((one) => one.value === workflowId)) known.push({ value: workflowId, label: workflowId })
  return (
    <Page
      title={said.title}
      className="details wideway"
      filters={
        <Select
          aria-label={said.workflow}
          placeholder={said.anyWorkflow}
          searchable
          clearable
          clearButtonProps={{ 'aria-label': said.anyWorkflow }}
          data={known}
          value={workflowId}
          onChange={(value) => set('workflow', value)}
        />
      }
    >
      {!workflowId && (
        <Coming workflows={workflows.rows} isRead={workflows.isSuccess} hasMore={workflows.hasNextPage} />
      )}
      {workflowId && <Times workflowId={workflowId} />}
      {workflowId && <Webhooks workflowId={workflowId} />}
      <Tabs value={tab} onChange={(value) => set('tab', value === 'events' ? null : value)} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="events">{said.events}</Tabs.Tab>
          <Tabs.Tab value="deliveries">{said.deliveries}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="events" pt="sm">
          <Events
            workflowId={workflowId}
            open={search.get('event')}
            href={(id) =>
              `/triggers?${new URLSearchParams({ ...(workflowId && { workflow: workflowId }), event: id })}`
            }
          />
        </Tabs.Panel>
        <Tabs.Panel value="deliveries" pt="sm">
          <Deliveries workflowId={workflowId} />
        </Tabs.Panel>
      </Tabs>
    </Page>
  )
}
