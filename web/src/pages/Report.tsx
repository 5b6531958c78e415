/** A run's effects as a page to print: what it did, when, in which mode, and what it cost; nothing else. */
import { Button } from '@mantine/core'
import { IconPrinter } from '@tabler/icons-react'
import { Link } from 'wouter'
import { useEffects, useRunHead } from '../api/queries'
import { Ladder, Warnings } from '../effects/Ladder'
import { Why } from '../effects/Why'
import type { Flow } from '../model/graph'
import { ModeBadge, RunStatus } from '../parts/Badges'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Facts, LoadingPage, Section } from '../parts/Section'
import { StartedBy } from '../parts/StartedBy'
import { took } from '../parts/Time'
import { words } from '../words'
import '../style/print.css'

const said = words.runs
const whole = (at?: string | null) =>
  at ? new Date(at).toLocaleString('en', { dateStyle: 'full', timeStyle: 'long' }) : '–'

export default function Report({ id }: { id: string }) {
  const run = useRunHead(id)
  const effects = useEffects(id)
  const error = run.error ?? effects.error
  if (!run.data || !effects.data) {
    if (!error) return <LoadingPage />
    return <Missing of="runs" error={error} retry={() => Promise.all([run.refetch(), effects.refetch()])} />
  }
  const one = run.data
  const name = one.workflowName || said.unsaved
  const rungs = { [one.mode]: effects.data }
  const flow = one.workflowDefinition as Flow | null
  const facts: [string, React.ReactNode][] = [
    [said.workflow, `${name}${one.workflowVersion ? ` · ${said.version(one.workflowVersion)}` : ''}`],
    [said.mode, <ModeBadge key="mode" mode={one.mode} />],
    [said.status, <RunStatus key="status" status={one.status} />],
    [said.started, whole(one.startedAt)],
    [said.took, took(one.startedAt, one.finishedAt)],
    [said.by, <StartedBy key="by" run={one} />],
    ['ID', one.id],
  ]
  return (
    <Page
      title={said.report(name)}
      className="details wideway report"
      actions={
        <>
          <Link href={`/runs/${id}?tab=effects`}>{said.backToRun}</Link>
          <Button leftSection={<IconPrinter size={16} />} onClick={() => window.print()}>
            {said.printNow}
          </Button>
        </>
      }
    >
      <Section title={said.about}>
        <Facts of={facts} />
      </Section>
      <Warnings rungs={rungs} flow={flow} />
      <Ladder rungs={rungs} modes={[one.mode]} flow={flow} />
      <Why runId={id} flow={flow} />
    </Page>
  )
}
