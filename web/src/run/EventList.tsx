/** Every event of a run, in order; a click looks at that moment. */
import { branchName, type Flow } from '../model/graph'
import { Windowed } from '../parts/Windowed'
import { words } from '../words'
import { describe } from './Replay'
import { useRunStore } from './store'

const ROW = 30

export function EventList({ flow }: { flow: Flow | null }) {
  const events = useRunStore((s) => s.events)
  const cursor = useRunStore((s) => s.cursor)
  const scrub = useRunStore((s) => s.scrub)
  const first = Date.parse(events[0]?.at ?? '')
  return (
    <Windowed
      rows={events}
      height={ROW}
      label={words.replay.tableLabel}
      className="events"
      keyOf={(event) => event.seq}
      classOf={(_, i) => (cursor !== null && i >= cursor ? 'later' : '')}
      at={cursor === null ? null : cursor - 1}
    >
      {(event, i) => (
        <button type="button" onClick={() => scrub(i + 1)} aria-current={cursor === i + 1 || undefined}>
          <span className="num quiet">{event.seq}</span>
          <i className={`tick ${event.type}`} aria-hidden />
          <span className="told">
            {describe(event, flow)}
            {typeof event.message === 'string' && <em dir="auto"> {event.message}</em>}
            {typeof event.branch === 'string' && <em> → {branchName(event.branch)}</em>}
          </span>
          <span className="num quiet">+{Date.parse(event.at) - first} ms</span>
        </button>
      )}
    </Windowed>
  )
}
