/** A live run that moved what its simulation had shown: the first of a version as a moment of its own, then one green line. */
import { useQuery } from '@tanstack/react-query'
import { Link } from 'wouter'
import { get, type Run } from '../api/client'
import { useEffects, useList } from '../api/queries'
import { money } from '../model/amounts'
import { besideOf, type Side } from '../model/toTheCent'
import { words } from '../words'

const said = words.toTheCent

export function ToTheCent({ run }: { run: Run }) {
  const { workflowId, workflowVersion: version, startedAt } = run
  const isAsked = run.mode === 'live' && run.status === 'success' && Boolean(workflowId && version)
  const before = { workflowId, version, mode: 'simulate', status: 'success', until: startedAt }
  const simulation = useList('/v1/runs', before, {}, isAsked).rows[0]
  const first = useQuery({
    queryKey: ['/v1/runs', 'first', workflowId, version, startedAt],
    queryFn: () => {
      const query = { version: version ?? undefined, mode: ['live' as const], until: startedAt }
      return get('/v1/workflows/{id}/runs/count', { path: { id: workflowId ?? '' }, query })
    },
    enabled: isAsked,
  })
  const live = useEffects(isAsked ? run.id : null).data
  const simulated = useEffects(isAsked ? simulation?.id : null).data
  const beside = live && simulated ? besideOf(live, simulated) : null
  if (!beside || !simulation || !first.data) return null
  const link = <Link href={`/runs/${simulation.id}`}>{said.simulation}</Link>
  if (first.data.total > 0)
    return beside.isSame ? (
      <p className="tothecent isok">
        {said.asSimulated} {link}
      </p>
    ) : null
  return (
    <section className={`tothecent first ${beside.isSame ? 'same' : ''}`} role="status">
      <h2>{beside.isSame ? said.same : said.differs}</h2>
      <p className="quiet">
        {said.firstOf(version ?? 0)} {link}
      </p>
      <div className="sides">
        <Shown name={words.modeNames.simulate} mode="simulate" side={beside.shown} />
        <span className="equals" aria-hidden>
          {beside.isSame ? '=' : '≠'}
        </span>
        <Shown name={said.moved} mode="live" side={beside.moved} />
      </div>
    </section>
  )
}

/** The coins decide whether it is the same: the price in dollars is that of its moment. */
const Shown = ({ name, mode, side }: { name: string; mode: string; side: Side }) => (
  <div className={mode}>
    <span className="quiet">
      <span className="dot" aria-hidden /> {name}
    </span>
    <b className="num">{side.coins.join(', ')}</b>
    {side.usd && <span className="quiet num">{said.worth(money(side.usd))}</span>}
  </div>
)
