/** Every event of a run, in order; a click looks at that moment. */
import { readable } from '../model/amounts'
import { words } from '../words'
import { describe } from './Replay'
import { useRunStore } from './store'

export function EventList() {
  const events = useRunStore((s) => s.events)
  const cursor = useRunStore((s) => s.cursor)
  const scrub = useRunStore((s) => s.scrub)
  const first = Date.parse(events[0]?.at ?? '')
  return (
    <ol className="events" aria-label={words.replay.tableLabel}>
      {events.map((event, i) => (
        <li key={event.seq} className={cursor !== null && i >= cursor ? 'later' : ''}>
          <button type="button" onClick={() => scrub(i + 1)} aria-current={cursor === i + 1 || undefined}>
            <span className="num quiet">{event.seq}</span>
            <i className={`tick ${event.type}`} aria-hidden />
            <span>
              {describe(event)}
              {typeof event.message === 'string' && <em dir="auto"> {event.message}</em>}
              {typeof event.branch === 'string' && <em> → {readable(event.branch)}</em>}
            </span>
            <span className="num quiet">+{Date.parse(event.at) - first} ms</span>
          </button>
        </li>
      ))}
    </ol>
  )
}
