/** The scrubber: one tick for each event, because time would draw a wait of a day over everything else. */
import { ActionIcon } from '@mantine/core'
import { IconPlayerPause, IconPlayerPlay, IconPlayerTrackNext, IconPlayerTrackPrev } from '@tabler/icons-react'
import { useEffect } from 'react'
import type { RunEvent } from '../api/stream'
import { type Flow, pathNames } from '../model/graph'
import { runEnd } from '../model/outcomes'
import { words } from '../words'
import { useRunStore } from './store'

const STEP_MS = 260
const said = words.replay

export function describe(event?: RunEvent, flow?: Flow | null): string {
  if (!event) return ''
  if (event.type === 'run_finished') return runEnd(event.status)
  const item = event.item ? ` · ${event.item} ${event.status}` : ''
  return `${words.events[event.type] ?? event.type}${event.path ? ` ${pathNames(flow, event.path)}` : ''}${item}`
}

export function Replay({ flow }: { flow?: Flow | null }) {
  const events = useRunStore((s) => s.events)
  const cursor = useRunStore((s) => s.cursor)
  const scrub = useRunStore((s) => s.scrub)
  const isPlaying = useRunStore((s) => s.isPlaying)
  const togglePlay = useRunStore((s) => s.togglePlay)
  const at = cursor ?? events.length
  useEffect(() => {
    if (!isPlaying) return
    const timer = setInterval(() => {
      const { cursor, events } = useRunStore.getState()
      const next = (cursor ?? 0) + 1
      scrub(next)
      if (next >= events.length) useRunStore.setState({ isPlaying: false })
    }, STEP_MS)
    return () => clearInterval(timer)
  }, [isPlaying, scrub])
  const first = events[0]
  const event = events[Math.max(0, at - 1)]
  if (!first || !event) return null
  const since = Date.parse(event.at) - Date.parse(first.at)
  const all = Date.parse(events.at(-1)?.at ?? first.at) - Date.parse(first.at)
  return (
    <div className="replay" role="group" aria-label={said.label}>
      <ActionIcon variant="subtle" color="gray" aria-label={said.back} onClick={() => scrub(Math.max(1, at - 1))}>
        <IconPlayerTrackPrev size={16} />
      </ActionIcon>
      <ActionIcon variant="light" aria-label={isPlaying ? said.pause : said.play} onClick={togglePlay}>
        {isPlaying ? <IconPlayerPause size={16} /> : <IconPlayerPlay size={16} />}
      </ActionIcon>
      <ActionIcon variant="subtle" color="gray" aria-label={said.forward} onClick={() => scrub(at + 1)}>
        <IconPlayerTrackNext size={16} />
      </ActionIcon>
      <div className="track">
        <Ticks events={events} />
        <input
          type="range"
          min={1}
          max={events.length}
          value={at}
          aria-label={said.moment}
          aria-valuetext={describe(event, flow)}
          onChange={(change) => scrub(Number(change.currentTarget.value))}
        />
      </div>
      <output>
        <b>
          {at}/{events.length}
        </b>{' '}
        {describe(event, flow)} <span className="quiet">{said.of(since, all)}</span>
      </output>
    </div>
  )
}

const MOST_TICKS = 300

function Ticks({ events }: { events: RunEvent[] }) {
  const every = Math.ceil(events.length / MOST_TICKS)
  return events
    .map((event, i) => ({ event, i }))
    .filter(({ i }) => i % every === 0 || i === events.length - 1)
    .map(({ event, i }) => (
      <i
        key={event.seq}
        className={`tick ${event.type}`}
        ref={(el) => el?.style.setProperty('left', `${(i / Math.max(1, events.length - 1)) * 100}%`)}
      />
    ))
}
