/** On the first page as long as there is little on it: the example with its three reports, and templates. */
import { Button } from '@mantine/core'
import { IconStairs } from '@tabler/icons-react'
import { Link } from 'wouter'
import { useList, useWorkflow } from '../api/queries'
import { words } from '../words'
import { templates as said } from '../words.templates'
import { TemplateCards, useTemplates } from './Templates'

const EXAMPLE = 'Take profit'
const MANY = 6
const SHOWN = 3

export function FirstVisit({ count }: { count: number }) {
  const found = useTemplates({})
  const named = useList('/v1/workflows', { q: EXAMPLE })
  const example = named.rows.find((one) => one.name === EXAMPLE)
  if (count > MANY) return null
  const first = (found.data ?? []).slice(0, SHOWN)
  return (
    <section className="firstvisit" aria-label={said.start}>
      {example && <Example id={example.id} />}
      <header>
        <h2>{said.start}</h2>
        <Link href="/templates">{said.allOf(found.data?.length ?? 0)}</Link>
      </header>
      <TemplateCards items={first} />
    </section>
  )
}

/** What one workflow did when it was simulated, tested with dust, and run live. */
function Example({ id }: { id: string }) {
  const ladder = useWorkflow(id).data?.ladder
  if (!ladder) return null
  const rungs = (['simulate', 'dust', 'live'] as const).filter((mode) => ladder[mode])
  return (
    <div className="example">
      <IconStairs size={26} stroke={1.6} aria-hidden />
      <div>
        <strong>{said.example}</strong>
        <p>{said.exampleAbout}</p>
        <nav aria-label={said.reports}>
          {rungs.map((mode) => (
            <Link key={mode} href={`/runs/${ladder[mode]}?tab=effects`} className={`mode ${mode}`}>
              <i className="dot" aria-hidden />
              {words.modeNames[mode]}
            </Link>
          ))}
        </nav>
      </div>
      <Button component={Link} href={`/workflows/${id}`}>
        {said.openExample}
      </Button>
    </div>
  )
}
