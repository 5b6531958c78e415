/** A workflow's triggers: whether each listens, when it fires next, and what stopped it. */
import { useQuery } from '@tanstack/react-query'
import { ApiError, get, type Schemas } from '../api/client'
import { readable } from '../model/amounts'
import { Badge, ModeBadge } from '../parts/Badges'
import { Loading, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { pages } from '../words.pages'

const said = pages.triggers
const TONES: Record<string, string> = { armed: 'ok', paused: 'dust', failed: 'bad' }

export function Times({ workflowId }: { workflowId: string }) {
  const place = { path: { id: workflowId } }
  const info = useQuery({
    queryKey: ['trigger-info', workflowId],
    queryFn: () => get('/v1/workflows/{id}/trigger-info', place),
    refetchInterval: 15_000, // how far a chain is scanned, and whether a trigger stands still
  })
  // A workflow without a schedule answers 404 or 409 here, which is no trouble.
  const schedule = useQuery({
    queryKey: ['schedule', workflowId],
    queryFn: () =>
      get('/v1/workflows/{id}/schedule', place).catch((error: unknown) => {
        if (error instanceof ApiError && (error.status === 404 || error.status === 409)) return null
        throw error
      }),
  })
  const error = info.error ?? schedule.error
  if (error) return <Trouble error={error} retry={() => info.refetch()} />
  if (!info.data) return <Loading />
  const fires = (schedule.data?.triggers ?? []).flatMap((one) =>
    one.fires.map((fire) => ({ ...fire, of: one.triggerNodeId, zone: one.timezone })),
  )
  return (
    <Section title={said.listening}>
      {!info.data.triggers.length && <p className="quiet body">{said.noTriggers}</p>}
      <ul className="feed">
        {info.data.triggers.map((one) => (
          <State key={one.id} one={one} />
        ))}
      </ul>
      {fires.length > 0 && (
        <>
          <h3 className="sub">{said.next}</h3>
          <ol className="times">
            {fires.map((fire) => (
              <li key={`${fire.of} ${fire.at}`} title={fire.at}>
                {fire.localTime.slice(0, 16).replace('T', ' ')} <span className="quiet">{fire.zone}</span>
                {fire.note && <span className="quiet"> · {fire.note}</span>}
              </li>
            ))}
          </ol>
        </>
      )}
    </Section>
  )
}

const State = ({ one }: { one: Schemas['TriggerState'] }) => (
  <li>
    <strong>{readable(one.triggerNodeId)}</strong>
    <span className="quiet">{one.type}</span>
    <Badge tone={one.stalledSince ? 'bad' : TONES[one.state]}>
      {one.stalledSince ? said.stalled : (said.states[one.state] ?? one.state)}
    </Badge>
    <ModeBadge mode={one.mode} />
    {(one.stateReason || one.lastError) && <span className="quiet">{one.lastError ?? one.stateReason}</span>}
    {one.stalledSince && (
      <span className="quiet">
        {said.since} <Time at={one.stalledSince} />
      </span>
    )}
    {one.chain && (
      <span className="quiet">
        {said.scanned(one.chain.lastScannedBlock, one.chain.head)}
        {one.chain.lag ? ` · ${said.lag(one.chain.lag)}` : ''}
      </span>
    )}
    {one.lastFiredAt && (
      <span className="quiet">
        {said.last} <Time at={one.lastFiredAt} />
      </span>
    )}
    <Time at={one.nextFireAt} />
  </li>
)
