/** What a run of the message did or would do: the server's report as the ladder's table, with links to its steps. */
import { Link, useLocation } from 'wouter'
import type { Mode } from '../api/client'
import { useEffects } from '../api/queries'
import { Ladder, Warnings } from '../effects/Ladder'
import { ModeBadge } from '../parts/Badges'
import { Bones } from '../parts/Bones'
import { Trouble } from '../parts/Trouble'
import { assistant as said } from '../words.assistant'

export function Outcome({ runId, mode, isOpen }: { runId: string; mode: Mode; isOpen: boolean }) {
  return (
    <details className="outcome" open={isOpen}>
      <summary>
        <ModeBadge mode={mode} /> <span>{said.run[mode]}</span>
      </summary>
      <Report runId={runId} mode={mode} label={`${said.run[mode]} ${runId}`} />
      <p className="foot">
        <Link href={`/runs/${runId}`}>{said.openRun}</Link> <code>{runId}</code>
      </p>
    </details>
  )
}

/** `label` tells one table of a page from the next. */
export function Report({ runId, mode, label }: { runId: string; mode: Mode; label: string }) {
  const [, go] = useLocation()
  const effects = useEffects(runId)
  if (effects.error) return <Trouble error={effects.error} retry={() => effects.refetch()} />
  if (!effects.data) return <Bones many={3} />
  const rungs = { [mode]: effects.data }
  return (
    <>
      <Warnings rungs={rungs} />
      <Ladder
        rungs={rungs}
        modes={[mode]}
        label={label}
        select={(id) => go(`/runs/${runId}?step=${encodeURIComponent(id)}`)}
      />
    </>
  )
}
